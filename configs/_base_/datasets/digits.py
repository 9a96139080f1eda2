"""scikit-learn's 1,797 real digits at 32x32, part of the installation: nothing to download."""

_base_ = './in_memory.py'
num_classes = 10
image_size = 32
data_preprocessor = dict(
    mean=[77.0, 77.0, 77.0], std=[90.0, 90.0, 90.0], crop_padding=2, flip_prob=0.0
)
train_dataloader = dict(batch_size=64, dataset=dict(type='Digits', split='train'))
val_dataloader = dict(dataset=dict(type='Digits', split='test'))
test_dataloader = val_dataloader
