"""KFD-like ("FKD" in Table 6 of paper 000), our reading, not the authors' method.

Only the idea is known to us: a classifier on selectively fused features of all stages teaches the
others. Fusion, weights and temperature are ours. Schedule: KFMSD's.
"""

_base_ = './multi_head.py'
model = dict(
    type='FKD',
    neck=dict(type='FKDNeck'),
    alpha=0.3,
    tau=3.0,
    feature_weight=0.03,
    feature_loss=dict(type='BranchFeatureLoss', reduction='norm'),
)
