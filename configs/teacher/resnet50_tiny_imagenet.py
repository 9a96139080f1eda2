"""ResNet-50 alone on Tiny-ImageNet, schedule of MFAKD. Paper: 64.98."""

_base_ = './resnet34_tiny_imagenet.py'
model = dict(backbone='resnet50_in')
