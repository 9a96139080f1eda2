"""CIFAR-10 images in class folders, data/cifar10_images/{train,test}/<class>/*.png."""

num_classes = 10
image_size = 32
data_preprocessor = dict(
    type='BatchPreprocessor',
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
    crop_padding=4,
    flip_prob=0.5,
    channels_last=True,
)
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    dataset=dict(
        type='ImageFolder', data_root='data/cifar10_images', data_prefix='train', cache=True
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='mmkdfuse.identity_collate'),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    dataset=dict(
        type='ImageFolder', data_root='data/cifar10_images', data_prefix='test', cache=True
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmkdfuse.identity_collate'),
)
test_dataloader = val_dataloader
