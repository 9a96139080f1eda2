"""MFAKD on CIFAR-100, MobileNetV2x2 from ResNet-32x4. Paper: 75.98."""

_base_ = ['../_base_/pairs/resnet32x4_mobilenet_v2_x2_cifar100.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
