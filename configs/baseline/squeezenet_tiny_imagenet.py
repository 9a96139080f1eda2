"""SqueezeNet alone on Tiny-ImageNet. Paper: 56.25."""

_base_ = './resnet18_tiny_imagenet.py'
model = dict(backbone='squeezenet')
