"""WRN-40-2 alone on CIFAR-100, schedule of MFAKD. Paper: 75.61 as teacher, 76.35 as student."""

_base_ = './resnet32x4_cifar100.py'
model = dict(backbone='wrn40_2')
