"""What datasets held in memory share: whole uint8 batches, crop with padding 4 and flip."""

data_preprocessor = dict(type='BatchPreprocessor', crop_padding=4, flip_prob=0.5)
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='mmkdfuse.identity_collate'),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmkdfuse.identity_collate'),
)
test_dataloader = val_dataloader
