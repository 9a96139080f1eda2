"""KFMSD ResNet50 on Tiny-ImageNet. Paper: branches 60.96 62.62 64.43 64.04, ensemble 66.84."""

_base_ = './resnet18_tiny_imagenet.py'
model = dict(backbone='resnet50')
