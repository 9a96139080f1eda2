"""Datasets in memory, and the batched augmentation that follows them on the device."""

from mmkdfuse.datasets.batch_augment import augment
from mmkdfuse.datasets.batch_preprocessor import BatchPreprocessor
from mmkdfuse.datasets.cifar import CIFAR10, CIFAR100
from mmkdfuse.datasets.digits import Digits
from mmkdfuse.datasets.image_folder import ImageFolder
from mmkdfuse.datasets.image_store import ImageStore, StoreDataset, identity_collate
from mmkdfuse.datasets.tiny_imagenet import TinyImageNet

__all__ = [
    'CIFAR10',
    'CIFAR100',
    'BatchPreprocessor',
    'Digits',
    'ImageFolder',
    'ImageStore',
    'StoreDataset',
    'TinyImageNet',
    'augment',
    'identity_collate',
]
