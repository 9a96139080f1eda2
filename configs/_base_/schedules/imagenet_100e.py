"""ImageNet as usual: 100 epochs, total batch 256 (8 processes of 32), /10 at 30, 60 and 90.

mmpretrain's ``imagenet_bs256.py``; papers 000 and 001 do not train on ImageNet.
"""

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[30, 60, 90], gamma=0.1)
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=100)
val_cfg = dict()
test_cfg = dict()
# On another number of processes the learning rate follows the batch.
auto_scale_lr = dict(base_batch_size=256, enable=True)
