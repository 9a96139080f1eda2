"""KFMSD ResNet50 on CIFAR-100. Paper: branches 78.11 78.88 80.84 80.52, ensemble 82.25."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='resnet50')
