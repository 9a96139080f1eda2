"""MobileNetV2 alone on CIFAR-100, schedule of MFAKD. Paper: 69.06 (MobileNetV2x2)."""

_base_ = './shufflenet_v1_cifar100.py'
model = dict(backbone='mobilenet_v2_x2')
