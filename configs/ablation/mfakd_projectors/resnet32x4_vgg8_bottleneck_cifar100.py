"""Table 7, VGG-8 from ResNet-32x4, Bottleneck alone. Paper: 75.76."""

_base_ = '../../mfakd/resnet32x4_vgg8_cifar100.py'
model = dict(connector=dict(branches=('bottleneck',), upsample=None))
