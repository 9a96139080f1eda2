"""BYOT, journal form, MobileNetV1 on CIFAR-100."""

_base_ = './byot_journal_resnet18_cifar100.py'
model = dict(backbone='mobilenet_v1')
