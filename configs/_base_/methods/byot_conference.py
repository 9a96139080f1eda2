"""BYOT (Zhang et al., ICCV 2019), formula of the paper, numbers of an unofficial reproduction.

Bottleneck branches; KL with weight 0.1, temperature 3 and tau^2; squared distance of the features.
The reproduction weighs the sum over its batch of 128 with 1e-6; here the mean over the batch weighs
128e-6, which is the same and does not depend on the number of processes. Schedule: KFMSD's.
"""

_base_ = './multi_head.py'
model = dict(
    type='BYOT',
    neck=dict(type='BYOTNeck', form='conference'),
    alpha=0.1,
    tau=3.0,
    scale_by_tau2=True,
    feature_weight=128e-6,
    feature_loss=dict(type='BranchFeatureLoss', reduction='squared'),
    adapters=False,
    exempt_deepest=False,
)
