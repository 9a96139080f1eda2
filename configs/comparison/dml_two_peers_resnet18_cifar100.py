"""DML with two peers, ResNet18 on CIFAR-100."""

_base_ = './dml_resnet18_cifar100.py'
model = dict(peers=2)
