"""Table 7, ResNet-8x4 from ResNet-32x4, Sandglass+ alone. Paper: 79.63."""

_base_ = '../../mfakd/resnet32x4_resnet8x4_cifar100.py'
model = dict(connector=dict(branches=('sandglass_plus',), upsample=None))
