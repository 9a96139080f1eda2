"""ResNet-110 alone on CIFAR-100, schedule of MFAKD. Paper: 74.37."""

_base_ = './resnet32x4_cifar100.py'
model = dict(backbone='resnet110')
