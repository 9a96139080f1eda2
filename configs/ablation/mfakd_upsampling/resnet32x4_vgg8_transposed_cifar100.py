"""Table 9, VGG-8 from ResNet-32x4, transposed convolution. Paper: 76.17."""

_base_ = '../../mfakd/resnet32x4_vgg8_cifar100.py'
model = dict(connector=dict(upsample='transposed'))
