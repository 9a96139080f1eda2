"""Protocol G: a fixed random 5,000 of the CIFAR-10 images, 100 epochs.

One cycle, bf16 on the CPU, evaluated at the end. SGD 0.1, momentum 0.9, weight decay 5e-4; the
rate warms up from 0.01 over 20 % of the epochs, then falls along a cosine to 1e-4. ResNet18 with a
quarter of the width.
"""

_base_ = '../datasets/cifar10_folder.py'
train_dataloader = dict(dataset=dict(subset=5000))
optim_wrapper = dict(
    type='BF16OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-4, begin=20, end=100, convert_to_iter_based=True),
]
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=100, val_interval=100)
val_cfg = dict()
test_cfg = dict()
backbone = dict(arch='resnet18', base_channels=16, stem_channels=16)
