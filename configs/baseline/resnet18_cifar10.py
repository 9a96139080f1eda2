"""ResNet18 alone on CIFAR-10. Paper: 94.67."""

_base_ = [
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/cifar_200e.py',
    '../_base_/methods/baseline.py',
]
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone='resnet18',
)
