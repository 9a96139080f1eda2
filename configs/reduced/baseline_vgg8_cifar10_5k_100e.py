"""VGG8 alone, an eighth of the width: CIFAR-10, 5,000 images, 100 epochs."""

_base_ = './baseline_resnet18_cifar10_5k_100e.py'
model = dict(backbone=dict(_delete_=True, arch='vgg8', base_channels=8))
