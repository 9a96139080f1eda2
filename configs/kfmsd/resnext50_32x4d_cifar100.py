"""KFMSD ResNeXt50-32x4d on CIFAR-100. Paper: branches 78.39 79.23 80.95 81.75, ensemble 82.64."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='resnext50_32x4d')
