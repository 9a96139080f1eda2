"""KFMSD on MobileNetV1, a quarter of the width: CIFAR-10, 5,000 images, 100 epochs."""

_base_ = './kfmsd_resnet18_cifar10_5k_100e.py'
model = dict(backbone=dict(_delete_=True, arch='mobilenet_v1', base_channels=8))
