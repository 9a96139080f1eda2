"""Table 8, ShuffleNetV2x1.5 from ResNet-32x4, Sandglass alone. Paper: 79.68."""

_base_ = '../../mfakd/resnet32x4_shufflenet_v2_x1_5_cifar100.py'
model = dict(connector=dict(branches=('sandglass',), upsample=None))
