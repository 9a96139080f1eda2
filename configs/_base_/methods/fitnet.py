"""FitNet (Romero et al., 2015) as in the tables of SimKD and paper 001: stage 1, beside KD.

RepDistiller takes stage 2 without KD, which is the default of the class.
"""

_base_ = './teacher_student.py'
model = dict(type='FitNet', ce_weight=1.0, kd_weight=1.0, tau=4.0, hint_weight=100.0, stage=1)
