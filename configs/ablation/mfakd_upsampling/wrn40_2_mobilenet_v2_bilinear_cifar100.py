"""Table 9, MobileNetV2 from WRN-40-2, bilinear upsampling. Paper: 68.63."""

_base_ = '../../mfakd/wrn40_2_mobilenet_v2_cifar100.py'
model = dict(connector=dict(upsample='bilinear'))
