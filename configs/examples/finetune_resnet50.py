"""Self-distil fine-tuning of mmpretrain's ImageNet ResNet-50 on class folders at 224x224.

    python tools/train.py configs/examples/finetune_resnet50.py --cfg-options \
        model.num_classes=12 train_dataloader.dataset.data_root=data/leaves \
        val_dataloader.dataset.data_root=data/leaves test_dataloader.dataset.data_root=data/leaves

The file of ``load_from`` fills the main network but for its last layer; branches and classifiers
start from random weights and learn ten times as fast as the backbone. The rates are a usual start
for fine-tuning, not taken from the paper.
"""

_base_ = ['../_base_/datasets/image_folder_224.py', '../_base_/methods/kfmsd.py']
_models = 'https://download.openmmlab.com/mmclassification/v0/'
load_from = _models + 'resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth'
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone=dict(type='mmpretrain.ResNet', depth=50, out_indices=(0, 1, 2, 3)),
)
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}),
)
param_scheduler = dict(type='CosineAnnealingLR', T_max=30, convert_to_iter_based=True)
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=30)
val_cfg = test_cfg = dict()
