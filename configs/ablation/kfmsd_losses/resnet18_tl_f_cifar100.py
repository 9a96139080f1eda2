"""Table 5 of paper 000, ResNet18: Loss_TL + Loss_F. Paper: branches 73.05 74.65 77.33 79.53."""

_base_ = '../../kfmsd/resnet18_cifar100.py'
model = dict(gamma=0.0)
