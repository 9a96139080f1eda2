"""ShuffleNetV2 alone on CIFAR-100, schedule of MFAKD. Paper: 72.60."""

_base_ = './shufflenet_v1_cifar100.py'
model = dict(backbone='shufflenet_v2')
