"""Table 5 of paper 000, ResNet34: Loss_TL alone. Paper: branches 73.34 75.19 79.12 79.70."""

_base_ = '../../kfmsd/resnet34_cifar100.py'
model = dict(gamma=0.0, delta=0.0)
