"""Table 9, MobileNetV2 from WRN-40-2, transposed convolution. Paper: 68.93."""

_base_ = '../../mfakd/wrn40_2_mobilenet_v2_cifar100.py'
model = dict(connector=dict(upsample='transposed'))
