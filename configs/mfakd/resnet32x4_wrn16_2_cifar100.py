"""MFAKD on CIFAR-100, WRN-16-2 from ResNet-32x4. Paper: 78.88."""

_base_ = ['../_base_/pairs/resnet32x4_wrn16_2_cifar100.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
