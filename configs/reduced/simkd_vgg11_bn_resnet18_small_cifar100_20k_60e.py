"""SimKD, a small ResNet18 from VGG11, smaller maps: CIFAR-100, 20,000 images, 60 epochs."""

_base_ = [
    '../_base_/pairs/vgg11_bn_resnet18_small_cifar100_20k_60e.py',
    '../_base_/methods/simkd.py',
]
model = {{_base_.pair}}
