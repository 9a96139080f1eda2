"""Table 5 of paper 000, ResNet18: Loss_TL + Loss_MS. Paper: branches 74.11 76.74 78.38 80.06."""

_base_ = '../../kfmsd/resnet18_cifar100.py'
model = dict(delta=0.0)
