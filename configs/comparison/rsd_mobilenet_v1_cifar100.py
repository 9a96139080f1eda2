"""RSD, our reading, MobileNetV1 on CIFAR-100. Paper 000 prints 74.00 for the authors' method."""

_base_ = './rsd_resnet18_cifar100.py'
model = dict(backbone='mobilenet_v1')
