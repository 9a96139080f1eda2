"""ResNet-8x4 from WRN-40-2 on CIFAR-100."""

_base_ = './wrn40_2_wrn40_1_cifar100.py'
pair = dict(student='resnet8x4')
