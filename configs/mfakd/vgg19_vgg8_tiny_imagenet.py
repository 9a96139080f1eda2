"""MFAKD on Tiny-ImageNet, VGG-8 from VGG-19. Paper: 62.17."""

_base_ = ['../_base_/pairs/vgg19_vgg8_tiny_imagenet.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
