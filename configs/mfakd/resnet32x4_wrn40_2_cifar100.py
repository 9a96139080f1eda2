"""MFAKD on CIFAR-100, WRN-40-2 from ResNet-32x4. Paper: 79.81."""

_base_ = './resnet32x4_resnet8x4_cifar100.py'
model = dict(student='wrn40_2')
