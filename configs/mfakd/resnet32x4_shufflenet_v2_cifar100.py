"""MFAKD on CIFAR-100, ShuffleNetV2 from ResNet-32x4. Paper: 78.60."""

_base_ = ['../_base_/pairs/resnet32x4_shufflenet_v2_cifar100.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
