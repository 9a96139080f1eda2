"""Table 8, ShuffleNetV2 from ResNet-110x2, Bottleneck alone. Paper: 78.25."""

_base_ = '../../mfakd/resnet110x2_shufflenet_v2_cifar100.py'
model = dict(connector=dict(branches=('bottleneck',), upsample=None))
