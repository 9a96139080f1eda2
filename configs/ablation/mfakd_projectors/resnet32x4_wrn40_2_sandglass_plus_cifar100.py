"""Table 8, WRN-40-2 from ResNet-32x4, Sandglass+ alone. Paper: 79.82."""

_base_ = '../../mfakd/resnet32x4_wrn40_2_cifar100.py'
model = dict(connector=dict(branches=('sandglass_plus',), upsample=None))
