"""The network alone, trained with cross-entropy."""

_base_ = '../default_runtime.py'
model = dict(type='Classifier')
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1', rule='greater'))
