"""MFAKD on Tiny-ImageNet, ResNet-10 from ResNet-34. Paper: 66.10."""

_base_ = ['../_base_/pairs/resnet34_resnet10_tiny_imagenet.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
