"""WRN-40-1 alone on CIFAR-100, schedule of MFAKD. Paper: 69.92 and 71.92."""

_base_ = './resnet32x4_cifar100.py'
model = dict(backbone='wrn40_1')
