"""KFMSD on ResNet18, a quarter of the width: CIFAR-10, 10,000 images, 15 epochs."""

_base_ = ['../_base_/protocols/cifar10_10k_15e.py', '../_base_/methods/kfmsd.py']
model = {{_base_.network}}
