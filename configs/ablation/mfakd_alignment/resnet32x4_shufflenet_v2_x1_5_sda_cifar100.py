"""Table 6, ShuffleNetV2x1.5 from ResNet-32x4, upsampling without MBCA. Paper: 75.18."""

_base_ = '../../mfakd/resnet32x4_shufflenet_v2_x1_5_cifar100.py'
model = dict(connector=dict(branches=('pointwise',)))
