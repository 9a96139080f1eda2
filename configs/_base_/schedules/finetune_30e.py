"""Fine-tuning: 30 epochs, new layers learn ten times as fast as the backbone.

A usual start, not taken from a paper.
"""

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}),
)
param_scheduler = dict(type='CosineAnnealingLR', T_max=30, convert_to_iter_based=True)
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=30)
val_cfg = test_cfg = dict()
