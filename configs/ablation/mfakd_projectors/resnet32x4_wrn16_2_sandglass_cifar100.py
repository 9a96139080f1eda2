"""Table 8, WRN-16-2 from ResNet-32x4, Sandglass alone. Paper: 78.11."""

_base_ = '../../mfakd/resnet32x4_wrn16_2_cifar100.py'
model = dict(connector=dict(branches=('sandglass',), upsample=None))
