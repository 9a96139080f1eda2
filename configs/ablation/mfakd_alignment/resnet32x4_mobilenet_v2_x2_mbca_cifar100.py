"""Table 8, MobileNetV2x2 from ResNet-32x4, MBCA alone. Paper: 75.41 (Table 6: 75.01)."""

_base_ = '../../mfakd/resnet32x4_mobilenet_v2_x2_cifar100.py'
model = dict(connector=dict(upsample=None))
