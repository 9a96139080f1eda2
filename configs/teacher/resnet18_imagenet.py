"""ResNet-18 alone on ImageNet: what a student is without a teacher."""

_base_ = './resnet34_imagenet.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ResNet',
        depth=18,
        out_indices=(0, 1, 2, 3),
        zero_init_residual=False,
    )
)
