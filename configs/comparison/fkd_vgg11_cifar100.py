"""KFD-like, our reading, VGG11 on CIFAR-100. Paper 000 prints 71.55 for the authors' method."""

_base_ = './fkd_resnet18_cifar100.py'
model = dict(backbone='vgg11')
