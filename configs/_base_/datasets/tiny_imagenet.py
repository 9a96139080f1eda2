"""Tiny-ImageNet at 64x64, downloaded when missing."""

_base_ = './in_memory.py'
num_classes = 200
image_size = 64
data_preprocessor = dict(mean=[122.451, 114.2655, 101.3625], std=[58.701, 57.7575, 57.681])
images = dict(type='TinyImageNet', data_root='data/tiny-imagenet-200')
train_dataloader = dict(batch_size=64, dataset=dict(**images, split='train'))
val_dataloader = dict(dataset=dict(**images, split='val'))
test_dataloader = val_dataloader
