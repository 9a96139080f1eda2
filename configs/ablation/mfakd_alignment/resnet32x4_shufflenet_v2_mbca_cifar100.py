"""Table 7, ShuffleNetV2 from ResNet-32x4, MBCA alone. Paper: 78.50."""

_base_ = '../../mfakd/resnet32x4_shufflenet_v2_cifar100.py'
model = dict(connector=dict(upsample=None))
