"""VGG-8 from VGG-19 on Tiny-ImageNet."""

_base_ = './resnet34_resnet10_tiny_imagenet.py'
pair = dict(
    student='vgg8',
    teacher=dict(
        arch='vgg19_nobn', checkpoint='work_dirs/teacher/vgg19_tiny_imagenet/epoch_240.pth'
    ),
)
