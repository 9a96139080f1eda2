"""A small ResNet18 alone: CIFAR-100, 20,000 images, 60 epochs."""

_base_ = [
    '../_base_/pairs/vgg11_bn_resnet18_small_cifar100_20k_60e.py',
    '../_base_/methods/baseline.py',
]
model = dict(
    num_classes={{_base_.num_classes}},
    image_size={{_base_.image_size}},
    backbone={{_base_.pair.student}},
)
