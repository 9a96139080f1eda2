"""ResNet-8x4 alone on CIFAR-100, schedule of MFAKD. Paper: 73.09 and 72.09."""

_base_ = './resnet32x4_cifar100.py'
model = dict(backbone='resnet8x4')
