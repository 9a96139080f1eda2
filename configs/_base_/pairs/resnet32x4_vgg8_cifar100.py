"""VGG-8 from ResNet-32x4 on CIFAR-100."""

_base_ = './resnet32x4_resnet8x4_cifar100.py'
pair = dict(student='vgg8')
