"""Self-distil fine-tuning of mmpretrain's ImageNet ResNet-50 on class folders at 224x224.

    python tools/train.py configs/examples/finetune_resnet50.py --cfg-options \
        model.num_classes=12 train_dataloader.dataset.data_root=data/leaves \
        val_dataloader.dataset.data_root=data/leaves test_dataloader.dataset.data_root=data/leaves

The file of ``load_from`` fills the main network but for its last layer; the rest starts at random.
"""

_base_ = [
    '../_base_/datasets/image_folder_224.py',
    '../_base_/schedules/finetune_30e.py',
    '../_base_/methods/kfmsd.py',
]
_models = 'https://download.openmmlab.com/mmclassification/v0/'
load_from = _models + 'resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth'
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone=dict(type='mmpretrain.ResNet', depth=50, out_indices=(0, 1, 2, 3)),
)
