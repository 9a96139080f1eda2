"""VGG19 alone on CIFAR-10. Paper: 93.94."""

_base_ = './resnet18_cifar10.py'
model = dict(backbone='vgg19')
