"""VGG8 with an eighth of the width, alone, under protocol G, see docs/results.md."""

_base_ = './baseline_g.py'
model = dict(backbone=dict(_delete_=True, arch='vgg8', base_channels=8))
