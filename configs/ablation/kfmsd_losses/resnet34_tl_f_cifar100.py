"""Table 5 of paper 000, ResNet34: Loss_TL + Loss_F. Paper: branches 73.92 76.11 79.51 80.53."""

_base_ = '../../kfmsd/resnet34_cifar100.py'
model = dict(gamma=0.0)
