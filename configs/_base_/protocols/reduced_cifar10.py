"""What the protocols on CIFAR-10 share: ResNet18 with a quarter of the width."""

_base_ = ['../datasets/cifar10_folder.py', './reduced.py']
data_preprocessor = dict(channels_last=True)
network = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone=dict(arch='resnet18', base_channels=16, stem_channels=16),
)
