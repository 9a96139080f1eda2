"""MFAKD, a narrow VGG8 from a VGG11 of teacher_m.py under protocol G."""

_base_ = ['../_base_/protocols/g.py', '../_base_/methods/mfakd.py']
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    student=dict(arch='vgg8', base_channels=8),
    teacher=dict(
        arch='vgg11_bn',
        base_channels=16,
        checkpoint='work_dirs/reduced/teacher/seed0/epoch_20.pth',
    ),
)
