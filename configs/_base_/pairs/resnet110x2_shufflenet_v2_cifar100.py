"""ShuffleNetV2 from ResNet-110x2 on CIFAR-100."""

_base_ = './resnet110x2_resnet110_cifar100.py'
pair = dict(student='shufflenet_v2')
optim_wrapper = dict(optimizer=dict(lr=0.01))
