"""DML with one peer, MobileNetV1 on CIFAR-100."""

_base_ = './dml_resnet18_cifar100.py'
model = dict(backbone='mobilenet_v1')
