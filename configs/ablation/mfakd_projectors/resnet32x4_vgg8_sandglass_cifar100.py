"""Table 7, VGG-8 from ResNet-32x4, Sandglass alone. Paper: 75.78."""

_base_ = '../../mfakd/resnet32x4_vgg8_cifar100.py'
model = dict(connector=dict(branches=('sandglass',), upsample=None))
