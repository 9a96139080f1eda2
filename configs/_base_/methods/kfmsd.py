"""KFMSD (paper 000): branches, mutual distillation."""

_base_ = './multi_head.py'
model = dict(
    type='KFMSD',
    neck=dict(type='KFMNeck', fuse='fused'),
    mutual_loss=dict(type='MutualKLLoss', tau=3.0),
    feature_loss=dict(type='BranchFeatureLoss', reduction='mean'),
    gamma=0.7,
    delta=0.03,
    predict_from='main',
)
