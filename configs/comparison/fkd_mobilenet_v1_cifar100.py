"""KFD-like, our reading, MobileNetV1 on CIFAR-100. Paper 000: 75.45 for the authors' method."""

_base_ = './fkd_resnet18_cifar100.py'
model = dict(backbone='mobilenet_v1')
