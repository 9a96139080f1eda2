"""Table 7, ResNet-8x4 from ResNet-32x4, Sandglass alone. Paper: 79.33."""

_base_ = '../../mfakd/resnet32x4_resnet8x4_cifar100.py'
model = dict(connector=dict(branches=('sandglass',), upsample=None))
