"""KFMSD on scikit-learn's real digits: nothing to download, a minute on two CPU cores."""

_base_ = [
    '../_base_/datasets/digits.py',
    '../_base_/schedules/quickstart.py',
    '../_base_/methods/kfmsd.py',
]
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone={{_base_.backbone}},
)
