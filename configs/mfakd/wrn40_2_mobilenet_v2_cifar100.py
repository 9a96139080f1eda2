"""MFAKD on CIFAR-100, MobileNetV2 from WRN-40-2. Paper: 69.22 (Tables 6, 8: 69.32)."""

_base_ = './resnet32x4_resnet8x4_cifar100.py'
model = dict(
    student='mobilenet_v2',
    teacher=dict(
        arch='wrn40_2',
        checkpoint='work_dirs/teacher/wrn40_2_cifar100/epoch_240.pth',
    ),
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
