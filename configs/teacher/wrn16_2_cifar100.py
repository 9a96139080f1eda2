"""WRN-16-2 alone on CIFAR-100, schedule of MFAKD. Paper: 73.51."""

_base_ = './resnet32x4_cifar100.py'
model = dict(backbone='wrn16_2')
