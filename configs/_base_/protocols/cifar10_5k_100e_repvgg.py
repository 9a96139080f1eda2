"""The protocol on 5,000 images of CIFAR-10 over 100 epochs, with a narrow RepVGG of mmpretrain."""

_base_ = './cifar10_5k_100e.py'
narrow = dict(
    num_blocks=(1, 2, 4, 1), width_factor=(0.5, 0.5, 0.5, 0.5), stem_channels=32,
    group_layer_map=None, se_cfg=None,
)  # fmt: skip
network = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.RepVGG',
        arch=narrow,
        strides=(1, 2, 2, 2),
        out_indices=(0, 1, 2, 3),
    )
)
