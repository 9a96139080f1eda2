"""KFMSD MobileNetV1 on CIFAR-100. Paper: branches 78.26 77.61 78.18 76.40, ensemble 80.19."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='mobilenet_v1')
