"""Table 7, ResNet-110 from ResNet-110x2, Sandglass alone. Paper: 77.97."""

_base_ = '../../mfakd/resnet110x2_resnet110_cifar100.py'
model = dict(connector=dict(branches=('sandglass',), upsample=None))
