"""Table 7, ResNet-8x4 from ResNet-32x4, Bottleneck alone. Paper: 78.08."""

_base_ = '../../mfakd/resnet32x4_resnet8x4_cifar100.py'
model = dict(connector=dict(branches=('bottleneck',), upsample=None))
