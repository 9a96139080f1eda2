"""KFMSD ResNet34 on CIFAR-100. Paper: branches 74.37 76.92 80.46 81.22, ensemble 81.70."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='resnet34')
