"""Table 7, ResNet-8x4 from WRN-40-2, Bottleneck alone. Paper: 76.75."""

_base_ = '../../mfakd/wrn40_2_resnet8x4_cifar100.py'
model = dict(connector=dict(branches=('bottleneck',), upsample=None))
