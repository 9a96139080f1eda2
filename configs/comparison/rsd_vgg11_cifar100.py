"""RSD, our reading, VGG11 on CIFAR-100. Paper 000 prints 72.38 for the authors' method."""

_base_ = './rsd_resnet18_cifar100.py'
model = dict(backbone='vgg11')
