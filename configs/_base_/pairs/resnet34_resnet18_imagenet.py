"""ResNet-18 from ResNet-34 on ImageNet, schedule of mmpretrain."""

_base_ = ['../datasets/imagenet.py', '../schedules/imagenet_100e.py']
pair = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    student=dict(
        type='mmpretrain.ResNet', depth=18, out_indices=(0, 1, 2, 3), zero_init_residual=False
    ),
    teacher=dict(
        arch='resnet34_in', checkpoint='work_dirs/teacher/resnet34_imagenet/epoch_100.pth'
    ),
)
