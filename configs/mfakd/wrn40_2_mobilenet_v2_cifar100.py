"""MFAKD on CIFAR-100, MobileNetV2 from WRN-40-2. Paper: 69.22 (Tables 6, 8: 69.32)."""

_base_ = ['../_base_/pairs/wrn40_2_mobilenet_v2_cifar100.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
