"""WRN-50-2 alone on CIFAR-100. Paper: 77.61."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='wrn50_2')
