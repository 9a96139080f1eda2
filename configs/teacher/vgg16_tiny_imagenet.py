"""VGG-16 without batch norm alone on Tiny-ImageNet, schedule of MFAKD. Paper: 61.22 (VGG-16)."""

_base_ = './resnet34_tiny_imagenet.py'
model = dict(backbone='vgg16_nobn')
