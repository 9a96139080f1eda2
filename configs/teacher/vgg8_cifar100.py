"""VGG-8 alone on CIFAR-100, schedule of MFAKD. Paper: 70.46."""

_base_ = './resnet32x4_cifar100.py'
model = dict(backbone='vgg8')
