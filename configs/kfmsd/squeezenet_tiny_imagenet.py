"""KFMSD SqueezeNet on Tiny-ImageNet. Paper: branches 60.34 60.59 61.62 58.16, ensemble 62.96."""

_base_ = './resnet18_tiny_imagenet.py'
model = dict(backbone='squeezenet')
