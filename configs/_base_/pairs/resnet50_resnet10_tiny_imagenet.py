"""ResNet-10 from ResNet-50 on Tiny-ImageNet."""

_base_ = './resnet34_resnet10_tiny_imagenet.py'
pair = dict(
    teacher=dict(
        arch='resnet50_in', checkpoint='work_dirs/teacher/resnet50_tiny_imagenet/epoch_240.pth'
    ),
)
