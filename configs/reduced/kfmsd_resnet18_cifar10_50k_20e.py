"""KFMSD on ResNet18, a quarter of the width: CIFAR-10, 50,000 images, 20 epochs."""

_base_ = ['../_base_/protocols/cifar10_50k_20e.py', '../_base_/methods/kfmsd.py']
model = {{_base_.network}}
