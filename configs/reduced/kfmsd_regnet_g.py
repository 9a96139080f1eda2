"""A small RegNetX of mmpretrain, with KFMSD, under protocol G, see docs/results.md."""

_base_ = './kfmsd_g.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.RegNet',
        arch=dict(w0=24, wa=24.48, wm=2.54, group_w=16, depth=10, bot_mul=1.0),
        strides=(1, 2, 2, 2),
        out_indices=(0, 1, 2, 3),
    )
)
