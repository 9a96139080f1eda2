"""SqueezeNet alone on CIFAR-100. Paper: 71.49."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='squeezenet')
