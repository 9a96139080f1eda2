"""SimKD on CIFAR-100, ResNet-8x4 from ResNet-32x4. Paper 001: 78.08."""

_base_ = [
    '../_base_/datasets/cifar100_crd.py',
    '../_base_/schedules/mfakd_240e.py',
    '../_base_/methods/simkd.py',
]
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    student='resnet8x4',
    teacher=dict(
        arch='resnet32x4',
        checkpoint='work_dirs/teacher/resnet32x4_cifar100/epoch_240.pth',
    ),
)
