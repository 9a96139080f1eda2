"""Table 6, MobileNetV2x2 from ResNet-32x4, upsampling without MBCA. Paper: 71.88."""

_base_ = '../../mfakd/resnet32x4_mobilenet_v2_x2_cifar100.py'
model = dict(connector=dict(branches=('pointwise',)))
