"""ImageNet-1k, data/imagenet/{train,val}/CLASS/* (or meta/{train,val}.txt), read from files.

Images vary in size, so mmpretrain's file pipeline decodes, crops to 224 and flips them. A process
takes 32 a step.
"""

_base_ = './image_folder_224.py'
num_classes = 1000
images = dict(_delete_=True, type='ImageNet', data_root='data/imagenet')
train_dataloader = dict(
    batch_size=32,
    persistent_workers=True,
    dataset=dict(**images, split='train', pipeline={{_base_.train_pipeline}}),
)
val_dataloader = dict(
    persistent_workers=True,
    dataset=dict(**images, split='val', pipeline={{_base_.test_pipeline}}),
)
test_dataloader = val_dataloader
