"""MobileNetV1 alone on CIFAR-100. Paper: 73.32."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='mobilenet_v1')
