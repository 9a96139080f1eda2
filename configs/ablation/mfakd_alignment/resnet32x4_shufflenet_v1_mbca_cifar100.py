"""Table 8, ShuffleNetV1 from ResNet-32x4, MBCA alone. Paper: 78.31 (Table 6: 77.91)."""

_base_ = '../../mfakd/resnet32x4_shufflenet_v1_cifar100.py'
model = dict(connector=dict(upsample=None))
