"""VGG11 alone on CIFAR-100. Paper: 70.04."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='vgg11')
