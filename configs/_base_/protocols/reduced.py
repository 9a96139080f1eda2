"""What the reduced-scale protocols share: data, network, optimiser.

ResNet18 with a quarter of the width on CIFAR-10 images; SGD 0.1, momentum 0.9, weight decay 5e-4,
batch 128, bf16 on the CPU. Every protocol adds one cycle of the learning rate, warming up from 0.01
over 20 % of the epochs, then falling along a cosine to 1e-4, and evaluates at the end only.
"""

_base_ = '../datasets/cifar10_folder.py'
data_preprocessor = dict(channels_last=True)
optim_wrapper = dict(
    type='BF16OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4),
)
val_cfg = dict()
test_cfg = dict()
backbone = dict(arch='resnet18', base_channels=16, stem_channels=16)
