"""KFMSD WRN-50-2 on CIFAR-100. Paper: branches 77.89 79.18 81.00 81.32, ensemble 82.16."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='wrn50_2')
