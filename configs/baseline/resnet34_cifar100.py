"""ResNet34 alone on CIFAR-100. Paper: 78.41."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='resnet34')
