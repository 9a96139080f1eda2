"""A small ResNet18 (2x2 maps) from VGG11 (4x4): CIFAR-100, 20,000 images, 60 epochs."""

_base_ = '../protocols/cifar100_20k_60e.py'
pair = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    student=dict(arch='resnet18', base_channels=16, stem_channels=16, strides=(2, 2, 2, 2)),
    teacher=dict(
        arch='vgg11_bn',
        base_channels=32,
        checkpoint='work_dirs/reduced/teacher_vgg11_bn_cifar100_50k_20e/epoch_20.pth',
    ),
)
