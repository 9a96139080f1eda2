"""Backbones that mmpretrain does not have, or whose stages the papers cut elsewhere."""

from mmkdfuse.models.backbones.mobilenet_v1 import MobileNetV1
from mmkdfuse.models.backbones.mobilenet_v2_cifar import MobileNetV2_CIFAR
from mmkdfuse.models.backbones.resnet10 import ResNet10
from mmkdfuse.models.backbones.resnext_cifar import ResNeXt_CIFAR
from mmkdfuse.models.backbones.shufflenet_v1_cifar import ShuffleNetV1_CIFAR
from mmkdfuse.models.backbones.shufflenet_v2_cifar import ShuffleNetV2_CIFAR
from mmkdfuse.models.backbones.squeezenet import SqueezeNet
from mmkdfuse.models.backbones.three_stage_resnet import ThreeStageResNet
from mmkdfuse.models.backbones.vgg import VGG
from mmkdfuse.models.backbones.vgg_cifar import VGG_CIFAR
from mmkdfuse.models.backbones.wide_resnet import WideResNet

__all__ = [
    'VGG',
    'VGG_CIFAR',
    'MobileNetV1',
    'MobileNetV2_CIFAR',
    'ResNeXt_CIFAR',
    'ResNet10',
    'ShuffleNetV1_CIFAR',
    'ShuffleNetV2_CIFAR',
    'SqueezeNet',
    'ThreeStageResNet',
    'WideResNet',
]
