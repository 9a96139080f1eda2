"""Table 5 of paper 000, ResNet18: all three losses. Paper: branches 74.59 76.40 78.95 80.45."""

_base_ = '../../kfmsd/resnet18_cifar100.py'
