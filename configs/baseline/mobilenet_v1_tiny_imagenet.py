"""MobileNetV1 alone on Tiny-ImageNet. Paper: 58.12."""

_base_ = './resnet18_tiny_imagenet.py'
model = dict(backbone='mobilenet_v1')
