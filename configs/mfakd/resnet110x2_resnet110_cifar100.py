"""MFAKD on CIFAR-100, ResNet-110 from ResNet-110x2. Paper: 78.08."""

_base_ = ['../_base_/pairs/resnet110x2_resnet110_cifar100.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
