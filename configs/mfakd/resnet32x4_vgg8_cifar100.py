"""MFAKD on CIFAR-100, VGG-8 from ResNet-32x4. Paper: 76.27."""

_base_ = './resnet32x4_resnet8x4_cifar100.py'
model = dict(student='vgg8')
