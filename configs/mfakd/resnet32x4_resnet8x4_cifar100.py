"""MFAKD on CIFAR-100, ResNet-8x4 from ResNet-32x4. Paper: 79.90."""

_base_ = ['../_base_/pairs/resnet32x4_resnet8x4_cifar100.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
