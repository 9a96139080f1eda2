"""CIFAR-100, a fixed random 20,000 of the training images, 60 epochs."""

_base_ = './cifar100_16px_20k_60e.py'
data_preprocessor = dict(crop_padding=4)
train_dataloader = dict(dataset=dict(resize=None))
val_dataloader = dict(dataset=dict(resize=None))
test_dataloader = val_dataloader
image_size = 32
network = dict(image_size=32)
