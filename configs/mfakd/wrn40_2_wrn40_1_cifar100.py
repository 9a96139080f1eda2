"""MFAKD on CIFAR-100, WRN-40-1 from WRN-40-2. Paper: 75.62."""

_base_ = ['../_base_/pairs/wrn40_2_wrn40_1_cifar100.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
