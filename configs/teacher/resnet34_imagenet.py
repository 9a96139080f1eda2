"""ResNet-34 alone on ImageNet, or torchvision's, without training (73.31 as they report it).

    wget https://download.pytorch.org/models/resnet34-b627a593.pth
    python tools/convert_checkpoint.py resnet34-b627a593.pth \
        work_dirs/teacher/resnet34_imagenet/epoch_100.pth --arch resnet34_in
"""

_base_ = [
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_100e.py',
    '../_base_/methods/baseline.py',
]
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone='resnet34_in',
)
