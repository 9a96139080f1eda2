"""ResNeXt50-32x4d alone on CIFAR-100. Paper: 78.75."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='resnext50_32x4d')
