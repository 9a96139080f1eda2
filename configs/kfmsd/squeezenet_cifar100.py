"""KFMSD SqueezeNet on CIFAR-100. Paper: branches 74.86 75.95 76.64 73.88, ensemble 78.06."""

_base_ = './resnet18_cifar100.py'
model = dict(backbone='squeezenet')
