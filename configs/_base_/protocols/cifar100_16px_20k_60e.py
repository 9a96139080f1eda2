"""CIFAR-100 at half the resolution, a fixed random 20,000 of the training images, 60 epochs.

The 32x32 images are reduced to 16x16 when they are read. ResNet18 with half the width. A leaf saves
every fifth epoch with ``save_every_fifth`` as ``default_hooks``, since methods have hooks too.
"""

_base_ = ['../datasets/cifar100_folder.py', './reduced.py']
data_preprocessor = dict(channels_last=True, crop_padding=2)
train_dataloader = dict(dataset=dict(resize=16, subset=20000))
val_dataloader = dict(dataset=dict(resize=16))
test_dataloader = val_dataloader
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=60, val_interval=60)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=12, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-4, begin=12, end=60, convert_to_iter_based=True),
]
save_every_fifth = dict(checkpoint=dict(interval=5))
image_size = 16
network = dict(
    num_classes={{_base_.num_classes}},
    image_size=image_size,
    backbone=dict(arch='resnet18', base_channels=32, stem_channels=32),
)
