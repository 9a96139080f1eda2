"""ResNet-10 from ResNet-34 on Tiny-ImageNet, data and schedule of paper 001."""

_base_ = ['../datasets/tiny_imagenet.py', '../schedules/mfakd_240e.py']
pair = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    student='resnet10',
    teacher=dict(
        arch='resnet34_in', checkpoint='work_dirs/teacher/resnet34_tiny_imagenet/epoch_240.pth'
    ),
)
