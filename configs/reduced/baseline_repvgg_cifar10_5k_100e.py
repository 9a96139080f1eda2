"""A narrow RepVGG of mmpretrain alone: CIFAR-10, 5,000 images, 100 epochs."""

_base_ = ['../_base_/protocols/cifar10_5k_100e_repvgg.py', '../_base_/methods/baseline.py']
model = {{_base_.network}}
