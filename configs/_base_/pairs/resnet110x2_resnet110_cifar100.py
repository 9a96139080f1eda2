"""ResNet-110 from ResNet-110x2 on CIFAR-100."""

_base_ = './resnet32x4_resnet8x4_cifar100.py'
pair = dict(
    student='resnet110',
    teacher=dict(
        arch='resnet110x2', checkpoint='work_dirs/teacher/resnet110x2_cifar100/epoch_240.pth'
    ),
)
