"""MFAKD (paper 001, training details): 240 epochs, batch 64, /10 at 150, 180 and 210.

The paper writes of Nesterov momentum; its code, like that of CRD and SimKD, has none. For MobileNet
and ShuffleNet the learning rate is 0.01.
"""

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[150, 180, 210], gamma=0.1)
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=240)
val_cfg = dict()
test_cfg = dict()
# The paper's total batch: on more processes the learning rate follows the batch.
auto_scale_lr = dict(base_batch_size=64, enable=True)
