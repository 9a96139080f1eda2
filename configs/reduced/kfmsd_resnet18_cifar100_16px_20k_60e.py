"""KFMSD on ResNet18, half the width: CIFAR-100 at 16x16, 20,000 images, 60 epochs."""

_base_ = ['../_base_/protocols/cifar100_16px_20k_60e.py', '../_base_/methods/kfmsd.py']
model = {{_base_.network}}
