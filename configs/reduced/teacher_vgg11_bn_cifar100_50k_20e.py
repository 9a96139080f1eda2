"""VGG11 with batch norm, half the width: teacher of the pairs on CIFAR-100."""

_base_ = ['../_base_/protocols/cifar100_50k_20e.py', '../_base_/methods/baseline.py']
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone=dict(arch='vgg11_bn', base_channels=32),
)
