"""Table 9, ShuffleNetV2x1.5 from ResNet-32x4, transposed convolution. Paper: 79.73."""

_base_ = '../../mfakd/resnet32x4_shufflenet_v2_x1_5_cifar100.py'
model = dict(connector=dict(upsample='transposed'))
