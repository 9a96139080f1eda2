"""KFMSD on a narrow RepVGG of mmpretrain: CIFAR-10, 5,000 images, 100 epochs."""

_base_ = ['../_base_/protocols/cifar10_5k_100e_repvgg.py', '../_base_/methods/kfmsd.py']
model = {{_base_.network}}
