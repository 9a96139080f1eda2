"""Contrast with a memory: the quickstart's network teaches one of half its width."""

_base_ = [
    '../mmkdfuse/configs/_base_/datasets/digits.py',
    '../mmkdfuse/configs/_base_/schedules/quickstart.py',
    '../mmkdfuse/configs/_base_/methods/teacher_student.py',
]
custom_imports = dict(imports=['mmkdfuse.registry', 'contrast'], allow_failed_imports=False)
model = dict(
    type='Distiller',
    student=dict(arch='resnet18', base_channels=4, stem_channels=4),
    teacher=dict(
        arch='resnet18',
        base_channels=8,
        stem_channels=8,
        checkpoint='work_dirs/quickstart/baseline_digits/epoch_15.pth',
    ),
    num_classes=10,
    image_size=32,
    losses=[dict(type='ContrastLoss', weight=0.8)],
)
