"""ResNet18 alone on Tiny-ImageNet. Paper: 57.86."""

_base_ = [
    '../_base_/datasets/tiny_imagenet.py',
    '../_base_/schedules/tiny_imagenet_100e.py',
    '../_base_/methods/baseline.py',
]
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone='resnet18',
)
