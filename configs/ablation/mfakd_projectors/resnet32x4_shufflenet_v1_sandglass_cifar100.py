"""Table 8, ShuffleNetV1 from ResNet-32x4, Sandglass alone. Paper: 77.31."""

_base_ = '../../mfakd/resnet32x4_shufflenet_v1_cifar100.py'
model = dict(connector=dict(branches=('sandglass',), upsample=None))
