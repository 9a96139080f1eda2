"""A student with frozen teachers, which are scored on the validation set before training."""

_base_ = './baseline.py'
default_hooks = dict(verify_teacher=dict(type='VerifyTeacherHook'))
