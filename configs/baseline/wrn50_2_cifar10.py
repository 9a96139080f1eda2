"""WRN-50-2 alone on CIFAR-10. Paper: 95.13."""

_base_ = './resnet18_cifar10.py'
model = dict(backbone='wrn50_2')
