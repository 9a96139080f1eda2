"""MFAKD on CIFAR-100, ResNet-110 from ResNet-110x2. Paper: 78.08."""

_base_ = './resnet32x4_resnet8x4_cifar100.py'
model = dict(
    student='resnet110',
    teacher=dict(
        arch='resnet110x2',
        checkpoint='work_dirs/teacher/resnet110x2_cifar100/epoch_240.pth',
    ),
)
