"""Table 7, ResNet-110 from ResNet-110x2, Bottleneck alone. Paper: 77.82."""

_base_ = '../../mfakd/resnet110x2_resnet110_cifar100.py'
model = dict(connector=dict(branches=('bottleneck',), upsample=None))
