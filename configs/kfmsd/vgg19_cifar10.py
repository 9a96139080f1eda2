"""KFMSD VGG19 on CIFAR-10. Paper: branches 93.09 94.28 94.30 94.30, ensemble 94.53."""

_base_ = './resnet18_cifar10.py'
model = dict(backbone='vgg19')
