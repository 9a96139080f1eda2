"""Table 5 of paper 000, ResNet34: all three losses. Paper: branches 74.37 76.92 80.46 81.22."""

_base_ = '../../kfmsd/resnet34_cifar100.py'
