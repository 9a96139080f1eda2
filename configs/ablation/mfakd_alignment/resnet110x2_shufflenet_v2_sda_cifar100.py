"""Table 6, ShuffleNetV2 from ResNet-110x2, upsampling without MBCA. Paper: 75.45."""

_base_ = '../../mfakd/resnet110x2_shufflenet_v2_cifar100.py'
model = dict(connector=dict(branches=('pointwise',)))
