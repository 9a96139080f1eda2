"""Branches learn class and rotation from labels, and all heads from a branched teacher.

The teacher is trained first, with this file and
    --cfg-options model.teacher=None model.losses.1.weight=0 model.backbone.base_channels=8
"""

_base_ = [
    '../mmkdfuse/configs/_base_/datasets/digits.py',
    '../mmkdfuse/configs/_base_/schedules/quickstart.py',
    '../mmkdfuse/configs/_base_/methods/teacher_student.py',
]
custom_imports = dict(imports=['mmkdfuse.registry', 'rotations'], allow_failed_imports=False)
model = dict(
    type='BranchedClassifier',
    backbone=dict(arch='resnet18', base_channels=4, stem_channels=4),
    branch_classes=4 * 10,
    num_classes=10,
    image_size=32,
    teacher=dict(
        type='BranchedClassifier',
        backbone=dict(arch='resnet18', base_channels=8, stem_channels=4),
        branch_classes=4 * 10,
        checkpoint='work_dirs/teacher/epoch_15.pth',
    ),
    views=dict(type='Rotations'),
    losses=[dict(type='JointLabelLoss'), dict(type='SameHeadsKLLoss', tau=3.0)],
)
