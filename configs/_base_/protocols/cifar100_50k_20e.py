"""CIFAR-100, all training images, 20 epochs."""

_base_ = './cifar100_20k_60e.py'
train_dataloader = dict(dataset=dict(subset=None))
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=20, val_interval=20)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=4, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-4, begin=4, end=20, convert_to_iter_based=True),
]
