"""KFMSD ResNet18 on Tiny-ImageNet. Paper: branches 56.39 58.60 59.78 62.18, ensemble 63.65."""

_base_ = [
    '../_base_/datasets/tiny_imagenet.py',
    '../_base_/schedules/tiny_imagenet_100e.py',
    '../_base_/methods/kfmsd.py',
]
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone='resnet18',
)
