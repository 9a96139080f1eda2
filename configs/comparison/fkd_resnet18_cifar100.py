"""KFD-like, our reading, ResNet18 on CIFAR-100. Paper 000 prints 79.24 for the authors' method."""

_base_ = [
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_200e.py',
    '../_base_/methods/fkd.py',
]
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone='resnet18',
)
