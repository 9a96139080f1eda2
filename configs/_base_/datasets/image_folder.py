"""Your own images: data/images/{train,val}/<class>/*, all of one size or resized to one.

Set ``num_classes``, ``image_size`` and the folder in the config that inherits this one.
"""

_base_ = './in_memory.py'
num_classes = 10
image_size = 64
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
images = dict(type='ImageFolder', data_root='data/images', resize=64, cache=True)
train_dataloader = dict(dataset=dict(**images, data_prefix='train'))
val_dataloader = dict(dataset=dict(**images, data_prefix='val'))
test_dataloader = val_dataloader
