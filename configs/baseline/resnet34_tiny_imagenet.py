"""ResNet34 alone on Tiny-ImageNet. Paper: 58.57."""

_base_ = './resnet18_tiny_imagenet.py'
model = dict(backbone='resnet34')
