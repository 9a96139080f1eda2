"""KFMSD VGG11 on CIFAR-100. Paper: branches 68.06 71.32 73.38 73.39, ensemble 74.57."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='vgg11')
