"""Table 5 of paper 000, ResNet18: Loss_TL alone. Paper: branches 73.27 74.56 78.00 78.60."""

_base_ = '../../kfmsd/resnet18_cifar100.py'
model = dict(gamma=0.0, delta=0.0)
