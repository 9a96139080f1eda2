"""VGG16 alone on Tiny-ImageNet. Paper: 58.16."""

_base_ = './resnet18_tiny_imagenet.py'
model = dict(backbone='vgg16')
