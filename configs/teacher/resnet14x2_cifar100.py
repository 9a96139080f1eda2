"""SimKD's WRN-16-2, activated after the sums, alone on CIFAR-100, schedule of MFAKD."""

_base_ = './resnet32x4_cifar100.py'
model = dict(backbone='resnet14x2')
