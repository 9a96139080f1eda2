"""ResNet18 alone on CIFAR-100. Paper: 77.64."""

_base_ = [
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_200e.py',
    '../_base_/methods/baseline.py',
]
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone='resnet18',
)
