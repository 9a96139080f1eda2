"""Table 3, ResNet-8x4 from ResNet-32x4, cross-entropy loss. Paper: 79.63."""

_base_ = '../../mfakd/resnet32x4_resnet8x4_cifar100.py'
model = dict(loss='ce')
