"""Table 8, WRN-40-2 from ResNet-32x4, Bottleneck alone. Paper: 79.29."""

_base_ = '../../mfakd/resnet32x4_wrn40_2_cifar100.py'
model = dict(connector=dict(branches=('bottleneck',), upsample=None))
