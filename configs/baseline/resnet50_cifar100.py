"""ResNet50 alone on CIFAR-100. Paper: 77.14."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='resnet50')
