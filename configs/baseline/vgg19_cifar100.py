"""VGG19 alone on CIFAR-100. Paper: 72.68."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='vgg19')
