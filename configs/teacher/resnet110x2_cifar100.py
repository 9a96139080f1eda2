"""ResNet-110x2 alone on CIFAR-100, schedule of MFAKD. Paper: 78.18."""

_base_ = './resnet32x4_cifar100.py'
model = dict(backbone='resnet110x2')
