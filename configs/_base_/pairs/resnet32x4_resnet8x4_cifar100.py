"""ResNet-8x4 from ResNet-32x4 on CIFAR-100, data and schedule of paper 001."""

_base_ = ['../datasets/cifar100_crd.py', '../schedules/mfakd_240e.py']
pair = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    student='resnet8x4',
    teacher=dict(
        arch='resnet32x4', checkpoint='work_dirs/teacher/resnet32x4_cifar100/epoch_240.pth'
    ),
)
