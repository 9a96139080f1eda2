"""Table 7, ResNet-116 from ResNet-110x2, Bottleneck alone. Paper: 77.90."""

_base_ = '../../mfakd/resnet110x2_resnet116_cifar100.py'
model = dict(connector=dict(branches=('bottleneck',), upsample=None))
