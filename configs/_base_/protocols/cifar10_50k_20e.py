"""CIFAR-10, all 50,000 training images, 20 epochs."""

_base_ = './reduced_cifar10.py'
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=20, val_interval=20)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=4, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-4, begin=4, end=20, convert_to_iter_based=True),
]
