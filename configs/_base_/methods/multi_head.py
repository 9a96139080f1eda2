"""Networks with several heads: every head and the ensemble evaluated, the main one kept."""

_base_ = '../default_runtime.py'
val_evaluator = dict(type='EnsembleAccuracy', topk=(1, 5))
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='main/top1', rule='greater'))
