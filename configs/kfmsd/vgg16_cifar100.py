"""KFMSD VGG16 on CIFAR-100. Paper: branches 72.24 75.39 76.60 76.76, ensemble 77.56."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='vgg16')
