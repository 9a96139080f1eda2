"""BYOT / SD (Zhang et al., TPAMI 2021), numbers and branches as in the authors' code.

Attention and separable chains; KL with weight 0.3 and temperature 3 without tau^2; Frobenius norm
with weight 0.03 behind linear adapters, the deepest branch exempt. Ours is the schedule: KFMSD's,
with crop and flip, where the authors train 250 epochs with AutoAugment and Cutout.
"""

_base_ = './multi_head.py'
model = dict(
    type='BYOT',
    neck=dict(type='BYOTNeck', form='journal'),
    alpha=0.3,
    tau=3.0,
    feature_weight=0.03,
    feature_loss=dict(type='BranchFeatureLoss', reduction='norm'),
    adapters=True,
    exempt_deepest=True,
)
