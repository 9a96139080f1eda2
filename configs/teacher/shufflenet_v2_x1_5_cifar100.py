"""ShuffleNetV2x1.5 alone on CIFAR-100, schedule of MFAKD. Paper: 74.15."""

_base_ = './shufflenet_v1_cifar100.py'
model = dict(backbone='shufflenet_v2_x1_5')
