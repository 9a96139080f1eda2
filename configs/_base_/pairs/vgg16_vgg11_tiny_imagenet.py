"""VGG-11 from VGG-16 on Tiny-ImageNet."""

_base_ = './resnet34_resnet10_tiny_imagenet.py'
pair = dict(
    student='vgg11_nobn',
    teacher=dict(
        arch='vgg16_nobn', checkpoint='work_dirs/teacher/vgg16_tiny_imagenet/epoch_240.pth'
    ),
)
