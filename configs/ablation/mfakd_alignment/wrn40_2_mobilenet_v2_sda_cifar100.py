"""Table 6, MobileNetV2 from WRN-40-2, upsampling without MBCA. Paper: 64.13."""

_base_ = '../../mfakd/wrn40_2_mobilenet_v2_cifar100.py'
model = dict(connector=dict(branches=('pointwise',)))
