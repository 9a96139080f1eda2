"""KFMSD VGG19 on CIFAR-100. Paper: branches 72.23 74.99 75.06 75.04, ensemble 75.94."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='vgg19')
