"""VGG-8 alone on Tiny-ImageNet, schedule of MFAKD. Paper: 54.61."""

_base_ = './resnet34_tiny_imagenet.py'
model = dict(backbone='vgg8')
