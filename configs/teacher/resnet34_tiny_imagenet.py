"""ResNet-34 alone on Tiny-ImageNet, schedule of MFAKD. Paper: 65.61."""

_base_ = [
    '../_base_/datasets/tiny_imagenet.py',
    '../_base_/schedules/mfakd_240e.py',
    '../_base_/methods/baseline.py',
]
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone='resnet34_in',
)
