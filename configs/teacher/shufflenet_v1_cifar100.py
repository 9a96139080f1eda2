"""ShuffleNetV1 alone on CIFAR-100, schedule of MFAKD. Paper: 71.36."""

_base_ = './resnet32x4_cifar100.py'
model = dict(backbone='shufflenet_v1')
optim_wrapper = dict(optimizer=dict(lr=0.01))
