"""Table 9, VGG-8 from ResNet-32x4, bilinear upsampling. Paper: 76.07."""

_base_ = '../../mfakd/resnet32x4_vgg8_cifar100.py'
model = dict(connector=dict(upsample='bilinear'))
