"""MobileNetV2x2 from ResNet-32x4 on CIFAR-100."""

_base_ = './resnet32x4_resnet8x4_cifar100.py'
pair = dict(student='mobilenet_v2_x2')
optim_wrapper = dict(optimizer=dict(lr=0.01))
