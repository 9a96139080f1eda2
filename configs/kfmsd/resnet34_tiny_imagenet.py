"""KFMSD ResNet34 on Tiny-ImageNet. Paper: branches 56.72 59.80 61.91 64.88, ensemble 65.48."""

_base_ = './resnet18_tiny_imagenet.py'
model = dict(backbone='resnet34')
