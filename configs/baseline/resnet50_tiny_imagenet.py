"""ResNet50 alone on Tiny-ImageNet. Paper: 60.85."""

_base_ = './resnet18_tiny_imagenet.py'
model = dict(backbone='resnet50')
