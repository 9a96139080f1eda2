"""Table 7, ResNet-8x4 from WRN-40-2, Sandglass alone. Paper: 76.80."""

_base_ = '../../mfakd/wrn40_2_resnet8x4_cifar100.py'
model = dict(connector=dict(branches=('sandglass',), upsample=None))
