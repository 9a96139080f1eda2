"""KFMSD VGG16 on Tiny-ImageNet. Paper: branches 58.40 58.30 62.38 63.05, ensemble 64.86."""

_base_ = './resnet18_tiny_imagenet.py'
model = dict(backbone='vgg16')
