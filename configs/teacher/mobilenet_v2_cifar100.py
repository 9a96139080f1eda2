"""MobileNetV2 of half width alone on CIFAR-100, schedule of MFAKD. Paper: 64.88 and 65.43."""

_base_ = './shufflenet_v1_cifar100.py'
model = dict(backbone='mobilenet_v2')
