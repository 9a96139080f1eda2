"""MFAKD (paper 001): three projectors, nearest upsampling, MSE, the teacher's classifier."""

_base_ = './teacher_student.py'
model = dict(
    type='MFAKD',
    connector=dict(
        type='MBCAConnector',
        branches=('bottleneck', 'sandglass', 'sandglass_plus'),
        reduction=2,
        upsample='nearest',
    ),
    loss='mse',
    alpha=1.0,
    beta=0.0,
)
