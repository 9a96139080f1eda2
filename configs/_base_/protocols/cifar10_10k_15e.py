"""CIFAR-10, a fixed random 10,000 of the training images, 15 epochs."""

_base_ = './reduced_cifar10.py'
train_dataloader = dict(dataset=dict(subset=10000))
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=15, val_interval=15)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=3, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-4, begin=3, end=15, convert_to_iter_based=True),
]
