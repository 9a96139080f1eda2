"""MFAKD on CIFAR-100, ShuffleNetV2 from ResNet-110x2. Paper: 78.28 (Tables 6, 8: 78.29)."""

_base_ = ['../_base_/pairs/resnet110x2_shufflenet_v2_cifar100.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
