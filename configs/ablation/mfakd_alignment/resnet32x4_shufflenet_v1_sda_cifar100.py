"""Table 6, ShuffleNetV1 from ResNet-32x4, upsampling without MBCA. Paper: 74.22."""

_base_ = '../../mfakd/resnet32x4_shufflenet_v1_cifar100.py'
model = dict(connector=dict(branches=('pointwise',)))
