"""VGG8 from VGG11, both narrow: CIFAR-10, 5,000 images, 100 epochs."""

_base_ = '../protocols/cifar10_5k_100e.py'
pair = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    student=dict(arch='vgg8', base_channels=8),
    teacher=dict(
        arch='vgg11_bn',
        base_channels=16,
        checkpoint='work_dirs/reduced/teacher_vgg11_bn_cifar10_50k_20e/epoch_20.pth',
    ),
)
