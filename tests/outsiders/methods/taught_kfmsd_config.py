"""KFMSD on the digits, taught by the quickstart's network."""

_base_ = [
    '../mmkdfuse/configs/_base_/datasets/digits.py',
    '../mmkdfuse/configs/_base_/schedules/quickstart.py',
    '../mmkdfuse/configs/_base_/methods/kfmsd.py',
]
custom_imports = dict(imports=['mmkdfuse.registry', 'taught_kfmsd'], allow_failed_imports=False)
default_hooks = dict(verify_teacher=dict(type='VerifyTeacherHook'))
model = dict(
    type='TaughtKFMSD',
    backbone=dict(arch='resnet18', base_channels=4, stem_channels=4),
    teacher=dict(
        arch='resnet18',
        base_channels=8,
        stem_channels=8,
        checkpoint='work_dirs/quickstart/baseline_digits/epoch_15.pth',
    ),
    num_classes=10,
    image_size=32,
    kd_weight=1.0,
)
