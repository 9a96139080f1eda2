"""ResNet-116 alone on CIFAR-100, schedule of MFAKD. Paper: 74.46."""

_base_ = './resnet32x4_cifar100.py'
model = dict(backbone='resnet116')
