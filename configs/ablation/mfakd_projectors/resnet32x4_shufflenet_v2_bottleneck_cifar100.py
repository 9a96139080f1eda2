"""Table 7, ShuffleNetV2 from ResNet-32x4, Bottleneck alone. Paper: 78.39."""

_base_ = '../../mfakd/resnet32x4_shufflenet_v2_cifar100.py'
model = dict(connector=dict(branches=('bottleneck',), upsample=None))
