"""WRN-40-1 from WRN-40-2 on CIFAR-100."""

_base_ = './resnet32x4_resnet8x4_cifar100.py'
pair = dict(
    student='wrn40_1',
    teacher=dict(arch='wrn40_2', checkpoint='work_dirs/teacher/wrn40_2_cifar100/epoch_240.pth'),
)
