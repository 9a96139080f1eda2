"""MFAKD on Tiny-ImageNet, ResNet-10 from ResNet-50. Paper: 66.11."""

_base_ = './resnet34_resnet10_tiny_imagenet.py'
model = dict(
    teacher=dict(
        arch='resnet50_in',
        checkpoint='work_dirs/teacher/resnet50_tiny_imagenet/epoch_240.pth',
    ),
)
