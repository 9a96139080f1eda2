"""DKD (Zhao et al., CVPR 2022): weights and warm-up of the authors for a ResNet-32x4 teacher."""

_base_ = './teacher_student.py'
model = dict(type='DKD', ce_weight=1.0, alpha=1.0, beta=8.0, tau=4.0, warmup_epochs=20)
