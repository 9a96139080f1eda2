"""MobileNetV1 with a quarter of the width, alone, under protocol G, see docs/results.md."""

_base_ = './baseline_g.py'
model = dict(backbone=dict(_delete_=True, arch='mobilenet_v1', base_channels=8))
