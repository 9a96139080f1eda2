"""Table 7, ResNet-116 from ResNet-110x2, Sandglass+ alone. Paper: 78.07."""

_base_ = '../../mfakd/resnet110x2_resnet116_cifar100.py'
model = dict(connector=dict(branches=('sandglass_plus',), upsample=None))
