"""Table 7, VGG-8 from ResNet-32x4, Sandglass+ alone. Paper: 75.91."""

_base_ = '../../mfakd/resnet32x4_vgg8_cifar100.py'
model = dict(connector=dict(branches=('sandglass_plus',), upsample=None))
