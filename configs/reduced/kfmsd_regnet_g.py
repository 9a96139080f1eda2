"""RegNetX-200MF of mmpretrain, with KFMSD, under protocol G, see docs/results.md."""

_base_ = './kfmsd_g.py'
regnetx_200mf = dict(w0=24, wa=36.44, wm=2.49, group_w=8, depth=13, bot_mul=1.0)
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.RegNet',
        arch=regnetx_200mf,
        strides=(1, 2, 2, 2),
        out_indices=(0, 1, 2, 3),
    )
)
