"""Table 7, ResNet-116 from ResNet-110x2, Sandglass alone. Paper: 77.99."""

_base_ = '../../mfakd/resnet110x2_resnet116_cifar100.py'
model = dict(connector=dict(branches=('sandglass',), upsample=None))
