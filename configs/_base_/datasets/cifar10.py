"""CIFAR-10, the official files, downloaded when missing."""

_base_ = './in_memory.py'
num_classes = 10
image_size = 32
data_preprocessor = dict(
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
)
train_dataloader = dict(dataset=dict(type='CIFAR10', data_root='data/cifar10', split='train'))
val_dataloader = dict(dataset=dict(type='CIFAR10', data_root='data/cifar10', split='test'))
test_dataloader = val_dataloader
