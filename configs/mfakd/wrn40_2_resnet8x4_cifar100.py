"""MFAKD on CIFAR-100, ResNet-8x4 from WRN-40-2. Paper: 77.39."""

_base_ = './resnet32x4_resnet8x4_cifar100.py'
model = dict(
    teacher=dict(
        arch='wrn40_2',
        checkpoint='work_dirs/teacher/wrn40_2_cifar100/epoch_240.pth',
    ),
)
