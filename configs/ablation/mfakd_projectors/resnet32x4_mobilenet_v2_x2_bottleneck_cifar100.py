"""Table 8, MobileNetV2x2 from ResNet-32x4, Bottleneck alone. Paper: 75.43."""

_base_ = '../../mfakd/resnet32x4_mobilenet_v2_x2_cifar100.py'
model = dict(connector=dict(branches=('bottleneck',), upsample=None))
