"""CIFAR-10, a fixed random 5,000 of the training images, 100 epochs."""

_base_ = './reduced_cifar10.py'
train_dataloader = dict(dataset=dict(subset=5000))
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=100, val_interval=100)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-4, begin=20, end=100, convert_to_iter_based=True),
]
