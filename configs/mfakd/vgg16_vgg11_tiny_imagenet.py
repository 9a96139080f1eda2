"""MFAKD on Tiny-ImageNet, VGG-11 from VGG-16. Paper: 62.05."""

_base_ = ['../_base_/pairs/vgg16_vgg11_tiny_imagenet.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
