"""KFMSD ResNet18 on CIFAR-100. Paper: branches 74.59 76.40 78.95 80.45, ensemble 81.02."""

_base_ = [
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_200e.py',
    '../_base_/methods/kfmsd.py',
]
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone='resnet18',
)
