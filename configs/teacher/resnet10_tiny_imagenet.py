"""ResNet-10 of double width alone on Tiny-ImageNet, schedule of MFAKD. Paper: 58.01 (ResNet-10)."""

_base_ = './resnet34_tiny_imagenet.py'
model = dict(backbone='resnet10')
