"""VGG-19 without batch norm alone on Tiny-ImageNet, schedule of MFAKD. Paper: 61.15 (VGG-19)."""

_base_ = './resnet34_tiny_imagenet.py'
model = dict(backbone='vgg19_nobn')
