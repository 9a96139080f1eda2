"""KD on CIFAR-100, ResNet-8x4 from ResNet-32x4. Paper 001: 74.42."""

_base_ = ['../_base_/pairs/resnet32x4_resnet8x4_cifar100.py', '../_base_/methods/kd.py']
model = {{_base_.pair}}
