"""KFMSD MobileNetV1 on Tiny-ImageNet. Paper: branches 60.91 61.97 65.32 63.08, ensemble 66.10."""

_base_ = './resnet18_tiny_imagenet.py'
model = dict(backbone='mobilenet_v1')
