"""KFMSD on VGG11, a quarter of the width: CIFAR-10, 5,000 images, 100 epochs."""

_base_ = './kfmsd_resnet18_cifar10_5k_100e.py'
model = dict(
    backbone=dict(_delete_=True, arch='vgg11', base_channels=16),
    head=dict(type='StackedLinearClsHead', mid_channels=(256, 256), dropout_rate=0.5),
)
