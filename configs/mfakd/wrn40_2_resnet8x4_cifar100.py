"""MFAKD on CIFAR-100, ResNet-8x4 from WRN-40-2. Paper: 77.39."""

_base_ = ['../_base_/pairs/wrn40_2_resnet8x4_cifar100.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
