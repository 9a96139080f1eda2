"""MFAKD on CIFAR-100, ShuffleNetV2 from ResNet-110x2. Paper: 78.28 (Tables 6, 8: 78.29)."""

_base_ = './resnet32x4_resnet8x4_cifar100.py'
model = dict(
    student='shufflenet_v2',
    teacher=dict(
        arch='resnet110x2',
        checkpoint='work_dirs/teacher/resnet110x2_cifar100/epoch_240.pth',
    ),
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
