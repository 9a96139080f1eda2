"""MFAKD on CIFAR-100, WRN-16-2 from ResNet-32x4. Paper: 78.88."""

_base_ = './resnet32x4_resnet8x4_cifar100.py'
model = dict(student='wrn16_2')
