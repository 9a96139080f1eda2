"""Table 7, VGG-8 from ResNet-32x4, MBCA alone. Paper: 76.10."""

_base_ = '../../mfakd/resnet32x4_vgg8_cifar100.py'
model = dict(connector=dict(upsample=None))
