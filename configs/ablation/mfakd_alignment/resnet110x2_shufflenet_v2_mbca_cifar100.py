"""Table 8, ShuffleNetV2 from ResNet-110x2, MBCA alone. Paper: 78.25 (Table 6: 77.88)."""

_base_ = '../../mfakd/resnet110x2_shufflenet_v2_cifar100.py'
model = dict(connector=dict(upsample=None))
