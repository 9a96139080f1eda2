"""Backbones that mmpretrain lacks, or whose stages the papers cut elsewhere."""

from mmkdfuse.models.backbones.mobilenet_v1 import MobileNetV1
from mmkdfuse.models.backbones.resnext_cifar import ResNeXt_CIFAR
from mmkdfuse.models.backbones.squeezenet import SqueezeNet
from mmkdfuse.models.backbones.truncated import TruncatedBackbone
from mmkdfuse.models.backbones.vgg import VGG

__all__ = ['VGG', 'MobileNetV1', 'ResNeXt_CIFAR', 'SqueezeNet', 'TruncatedBackbone']
