"""ResNet50 alone on CIFAR-10. Paper: 95.17."""

_base_ = './resnet18_cifar10.py'
model = dict(backbone='resnet50')
