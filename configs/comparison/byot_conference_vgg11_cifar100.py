"""BYOT, conference form, VGG11 on CIFAR-100."""

_base_ = './byot_conference_resnet18_cifar100.py'
model = dict(backbone='vgg11')
