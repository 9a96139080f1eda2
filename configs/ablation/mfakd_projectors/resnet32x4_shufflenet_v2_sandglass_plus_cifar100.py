"""Table 7, ShuffleNetV2 from ResNet-32x4, Sandglass+ alone. Paper: 78.28."""

_base_ = '../../mfakd/resnet32x4_shufflenet_v2_cifar100.py'
model = dict(connector=dict(branches=('sandglass_plus',), upsample=None))
