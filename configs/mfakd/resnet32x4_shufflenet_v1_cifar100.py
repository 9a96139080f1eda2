"""MFAKD on CIFAR-100, ShuffleNetV1 from ResNet-32x4. Paper: 78.38."""

_base_ = ['../_base_/pairs/resnet32x4_shufflenet_v1_cifar100.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
