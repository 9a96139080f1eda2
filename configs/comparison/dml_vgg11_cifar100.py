"""DML with one peer, VGG11 on CIFAR-100."""

_base_ = './dml_resnet18_cifar100.py'
model = dict(backbone='vgg11')
