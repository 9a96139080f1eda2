"""KD, VGG8 from VGG11, equal maps: CIFAR-10, 5,000 images, 100 epochs."""

_base_ = [
    '../_base_/pairs/vgg11_bn_vgg8_cifar10_5k_100e.py',
    '../_base_/methods/kd.py',
]
model = {{_base_.pair}}
