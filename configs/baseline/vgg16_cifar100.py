"""VGG16 alone on CIFAR-100. Paper: 73.07."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='vgg16')
