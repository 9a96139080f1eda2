"""A small ResNet18 alone: CIFAR-10, 5,000 images, 100 epochs.

An eighth of the width; every stage halves the image, so its last map is 2x2.
"""

_base_ = './baseline_resnet18_cifar10_5k_100e.py'
model = dict(backbone=dict(base_channels=8, stem_channels=8, strides=(2, 2, 2, 2)))
