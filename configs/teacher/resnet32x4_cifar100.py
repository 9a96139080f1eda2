"""ResNet-32x4 alone on CIFAR-100, schedule of MFAKD. Paper: 79.42."""

_base_ = [
    '../_base_/datasets/cifar100_crd.py',
    '../_base_/schedules/mfakd_240e.py',
    '../_base_/methods/baseline.py',
]
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone='resnet32x4',
)
