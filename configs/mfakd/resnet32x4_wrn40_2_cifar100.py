"""MFAKD on CIFAR-100, WRN-40-2 from ResNet-32x4. Paper: 79.81."""

_base_ = ['../_base_/pairs/resnet32x4_wrn40_2_cifar100.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
