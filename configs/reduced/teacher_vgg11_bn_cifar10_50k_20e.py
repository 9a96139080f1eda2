"""VGG11 with batch norm, a quarter of the width: teacher of the pairs on CIFAR-10."""

_base_ = './baseline_resnet18_cifar10_50k_20e.py'
model = dict(backbone=dict(_delete_=True, arch='vgg11_bn', base_channels=16))
