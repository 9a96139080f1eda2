"""MFAKD on CIFAR-100, ShuffleNetV2x1.5 from ResNet-32x4. Paper: 80.04."""

_base_ = ['../_base_/pairs/resnet32x4_shufflenet_v2_x1_5_cifar100.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
