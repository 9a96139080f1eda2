"""ResNeXt50-32x4d alone on CIFAR-10. Paper: 95.17."""

_base_ = './resnet18_cifar10.py'
model = dict(backbone='resnext50_32x4d')
