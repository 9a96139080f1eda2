"""A ResNet18 that is small and halves the image at once, alone, under G, see docs/results.md.

An eighth of the width; its last map is 2x2.
"""

_base_ = './baseline_g.py'
model = dict(backbone=dict(base_channels=8, stem_channels=8, strides=(2, 2, 2, 2)))
