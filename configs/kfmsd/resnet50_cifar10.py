"""KFMSD ResNet50 on CIFAR-10. Paper: branches 95.14 95.36 95.70 95.51, ensemble 96.02."""

_base_ = './resnet18_cifar10.py'
model = dict(backbone='resnet50')
