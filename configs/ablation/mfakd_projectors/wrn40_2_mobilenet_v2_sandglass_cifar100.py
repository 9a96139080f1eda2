"""Table 8, MobileNetV2 from WRN-40-2, Sandglass alone. Paper: 69.26."""

_base_ = '../../mfakd/wrn40_2_mobilenet_v2_cifar100.py'
model = dict(connector=dict(branches=('sandglass',), upsample=None))
