"""KFMSD (paper 000): branches, mutual distillation, every head and the ensemble evaluated."""

_base_ = '../default_runtime.py'
model = dict(
    type='KFMSD',
    neck=dict(type='KFMNeck', fuse='fused'),
    mutual_loss=dict(type='MutualKLLoss', tau=3.0),
    feature_loss=dict(type='BranchFeatureLoss', reduction='mean'),
    gamma=0.7,
    delta=0.03,
    predict_from='main',
)
val_evaluator = dict(type='EnsembleAccuracy', topk=(1, 5))
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='main/top1', rule='greater'))
