"""KFMSD ResNet18 on CIFAR-10. Paper: branches 94.72 94.91 95.56 95.73, ensemble 95.69."""

_base_ = [
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/cifar_200e.py',
    '../_base_/methods/kfmsd.py',
]
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone='resnet18',
)
