"""KFMSD on CIFAR (paper 000, sec. 4.1): 200 epochs, batch 128, /10 at 66, 133 and 190."""

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[66, 133, 190], gamma=0.1)
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=200)
val_cfg = dict()
test_cfg = dict()
# The paper's total batch: on more processes the learning rate follows the batch.
auto_scale_lr = dict(base_batch_size=128, enable=True)
