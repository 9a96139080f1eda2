"""KD (Hinton et al., 2015) as in the tables of SimKD and paper 001: both terms weigh 1.

RepDistiller and mdistiller weigh them 0.1 and 0.9, which is the default of the class.
"""

_base_ = './teacher_student.py'
model = dict(type='KD', ce_weight=1.0, kd_weight=1.0, tau=4.0)
