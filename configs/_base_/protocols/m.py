"""Protocol M: all 50,000 CIFAR-10 images, 20 epochs.

One cycle, bf16 on the CPU, evaluated at the end. SGD 0.1, momentum 0.9, weight decay 5e-4; the
rate warms up from 0.01 over 20 % of the epochs, then falls along a cosine to 1e-4. ResNet18 with a
quarter of the width.
"""

_base_ = '../datasets/cifar10_folder.py'
optim_wrapper = dict(
    type='BF16OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=4, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-4, begin=4, end=20, convert_to_iter_based=True),
]
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=20, val_interval=20)
val_cfg = dict()
test_cfg = dict()
backbone = dict(arch='resnet18', base_channels=16, stem_channels=16)
