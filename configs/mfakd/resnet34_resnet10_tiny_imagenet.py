"""MFAKD on Tiny-ImageNet, ResNet-10 from ResNet-34. Paper: 66.10."""

_base_ = [
    '../_base_/datasets/tiny_imagenet.py',
    '../_base_/schedules/mfakd_240e.py',
    '../_base_/methods/mfakd.py',
]
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    student='resnet10',
    teacher=dict(
        arch='resnet34_in',
        checkpoint='work_dirs/teacher/resnet34_tiny_imagenet/epoch_240.pth',
    ),
)
