"""VGG11 with a quarter of the width, with KFMSD, under protocol G, see docs/results.md."""

_base_ = './kfmsd_g.py'
model = dict(
    backbone=dict(_delete_=True, arch='vgg11', base_channels=16),
    head=dict(type='StackedLinearClsHead', mid_channels=(256, 256), dropout_rate=0.5),
)
