"""KFMSD WRN-50-2 on CIFAR-10. Paper: branches 95.44 95.58 95.75 95.78, ensemble 96.19."""

_base_ = './resnet18_cifar10.py'
model = dict(backbone='wrn50_2')
