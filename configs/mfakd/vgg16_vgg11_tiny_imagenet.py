"""MFAKD on Tiny-ImageNet, VGG-11 from VGG-16. Paper: 62.05."""

_base_ = './resnet34_resnet10_tiny_imagenet.py'
model = dict(
    student='vgg11_nobn',
    teacher=dict(
        arch='vgg16_nobn',
        checkpoint='work_dirs/teacher/vgg16_tiny_imagenet/epoch_240.pth',
    ),
)
