"""Table 5 of paper 000, ResNet34: Loss_TL + Loss_MS. Paper: branches 74.17 76.67 80.20 80.86."""

_base_ = '../../kfmsd/resnet34_cifar100.py'
model = dict(delta=0.0)
