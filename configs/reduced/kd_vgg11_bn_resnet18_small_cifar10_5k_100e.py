"""KD, a small ResNet18 from VGG11, smaller maps: CIFAR-10, 5,000 images, 100 epochs."""

_base_ = [
    '../_base_/pairs/vgg11_bn_resnet18_small_cifar10_5k_100e.py',
    '../_base_/methods/kd.py',
]
model = {{_base_.pair}}
