"""scikit-learn's 1,797 real digits at 32x32, part of the installation: nothing to download."""

num_classes = 10
image_size = 32
data_preprocessor = dict(
    type='BatchPreprocessor',
    mean=[77.0, 77.0, 77.0],
    std=[90.0, 90.0, 90.0],
    crop_padding=2,
    flip_prob=0.0,
    channels_last=True,
)
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dict(type='Digits', split='train'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='mmkdfuse.identity_collate'),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    dataset=dict(type='Digits', split='test'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmkdfuse.identity_collate'),
)
test_dataloader = val_dataloader
