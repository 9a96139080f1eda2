"""KFMSD ResNet50 on ImageNet, images read from files. Not in the paper, no figures yet.

bash tools/dist_train.sh configs/kfmsd/resnet50_imagenet.py 8
"""

_base_ = [
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_100e.py',
    '../_base_/methods/kfmsd.py',
]
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone='resnet50_in',
)
