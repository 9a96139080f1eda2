"""KFMSD ResNeXt50-32x4d on CIFAR-10. Paper: branches 95.34 95.68 95.71 95.77, ensemble 96.18."""

_base_ = './resnet18_cifar10.py'
model = dict(backbone='resnext50_32x4d')
