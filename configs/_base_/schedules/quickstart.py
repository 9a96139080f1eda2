"""Fifteen epochs of one cycle: minutes on a CPU."""

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=3, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-4, begin=3, end=15, convert_to_iter_based=True),
]
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=15, val_interval=15)
val_cfg = dict()
test_cfg = dict()
backbone = dict(arch='resnet18', base_channels=8, stem_channels=8)
