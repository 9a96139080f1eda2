"""Tiny-ImageNet at 64x64, downloaded when missing; crop with padding 4 and flip."""

num_classes = 200
image_size = 64
data_preprocessor = dict(
    type='BatchPreprocessor',
    mean=[122.451, 114.2655, 101.3625],
    std=[58.701, 57.7575, 57.681],
    crop_padding=4,
    flip_prob=0.5,
    channels_last=True,
)
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dict(type='TinyImageNet', data_root='data/tiny-imagenet-200', split='train'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='mmkdfuse.identity_collate'),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    dataset=dict(type='TinyImageNet', data_root='data/tiny-imagenet-200', split='val'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmkdfuse.identity_collate'),
)
test_dataloader = val_dataloader
