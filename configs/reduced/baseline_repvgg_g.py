"""A narrow RepVGG of mmpretrain, alone, under protocol G, see docs/results.md."""

_base_ = ['../_base_/protocols/repvgg_g.py', '../_base_/methods/baseline.py']
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone={{_base_.backbone}},
)
