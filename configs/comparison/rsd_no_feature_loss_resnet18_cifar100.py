"""RSD, our reading, without feature loss: ResNet18 on CIFAR-100."""

_base_ = './rsd_resnet18_cifar100.py'
model = dict(delta=0.0)
