"""MFAKD on CIFAR-100, VGG-8 from ResNet-32x4. Paper: 76.27."""

_base_ = ['../_base_/pairs/resnet32x4_vgg8_cifar100.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
