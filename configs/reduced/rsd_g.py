"""RSD, our reading, under protocol G: reduced scale, two CPU cores, see docs/results.md."""

_base_ = ['../_base_/protocols/g.py', '../_base_/methods/rsd.py']
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone={{_base_.backbone}},
)
