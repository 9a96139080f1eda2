"""Table 5, ResNet-8x4 from ResNet-32x4, classification loss with weight 0.6. Paper: 79.02."""

_base_ = '../../mfakd/resnet32x4_resnet8x4_cifar100.py'
model = dict(beta=0.6)
