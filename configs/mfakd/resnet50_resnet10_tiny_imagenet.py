"""MFAKD on Tiny-ImageNet, ResNet-10 from ResNet-50. Paper: 66.11."""

_base_ = ['../_base_/pairs/resnet50_resnet10_tiny_imagenet.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
