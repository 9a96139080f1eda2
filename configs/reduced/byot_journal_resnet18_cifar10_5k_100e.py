"""BYOT, journal form, on ResNet18: CIFAR-10, 5,000 images, 100 epochs."""

_base_ = ['../_base_/protocols/cifar10_5k_100e.py', '../_base_/methods/byot_journal.py']
model = {{_base_.network}}
