"""SimKD (Chen et al., CVPR 2022): one projector, no upsampling."""

_base_ = './teacher_student.py'
model = dict(type='SimKD', alpha=1.0)
