"""Table 8, MobileNetV2 from WRN-40-2, Bottleneck alone. Paper: 67.69."""

_base_ = '../../mfakd/wrn40_2_mobilenet_v2_cifar100.py'
model = dict(connector=dict(branches=('bottleneck',), upsample=None))
