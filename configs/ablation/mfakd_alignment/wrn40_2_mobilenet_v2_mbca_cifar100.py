"""Table 8, MobileNetV2 from WRN-40-2, MBCA alone. Paper: 68.03 (Table 6: 67.93)."""

_base_ = '../../mfakd/wrn40_2_mobilenet_v2_cifar100.py'
model = dict(connector=dict(upsample=None))
