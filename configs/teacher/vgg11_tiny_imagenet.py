"""VGG-11 without batch norm alone on Tiny-ImageNet, schedule of MFAKD. Paper: 58.60 (VGG-11)."""

_base_ = './resnet34_tiny_imagenet.py'
model = dict(backbone='vgg11_nobn')
