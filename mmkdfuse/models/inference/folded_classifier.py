"""A plain classifier in its cheapest form, for inference only."""

from collections.abc import Sequence
from typing import Any

from mmpretrain.models.classifiers import ImageClassifier
from torch import nn

from mmkdfuse.models.connectors.mbca import MBCAConnector
from mmkdfuse.models.inference.fold_batch_norms import fold_batch_norms
from mmkdfuse.models.inference.merged_mbca import MergedMBCAConnector
from mmkdfuse.models.necks.aligned_neck import AlignedNeck
from mmkdfuse.models.probe import trial_images
from mmkdfuse.registry import MODELS

_TRIAL_IMAGES = 2


def fold_network(network: nn.Module, image_size: int | Sequence[int]) -> None:
    """Fold every batch norm into its convolution and merge parallel projectors, in place.

    The logits stay the same up to rounding; the network is in eval mode afterwards.

    Args:
        network: A classifier of (N, 3, H, W) images.
        image_size: Side length or (height, width) of the dry run's images, in pixels.
    """
    network.eval()
    for module in network.modules():
        if isinstance(module, AlignedNeck) and isinstance(module.connector, MBCAConnector):
            module.connector = MergedMBCAConnector.merge(module.connector)
    fold_batch_norms(network, trial_images(_TRIAL_IMAGES, image_size))


@MODELS.register_module()
class FoldedClassifier(ImageClassifier):
    """mmpretrain's ``ImageClassifier``, folded by :func:`fold_network`.

    Its weights are those of a folded network; training it means training without batch norm.

    Args:
        image_size: Side length or (height, width) of the dry run's images, in pixels.
        **kwargs: ``backbone``, ``neck``, ``head``, .. of ``ImageClassifier``.

    Example:
        >>> model = FoldedClassifier(
        ...     image_size=32,
        ...     backbone=dict(type='mmkdfuse.ThreeStageResNet', depth=8, out_indices=(2,)),
        ...     neck=dict(type='mmpretrain.GlobalAveragePooling'),
        ...     head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64),
        ... )
        >>> any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
        False
    """

    def __init__(self, image_size: int | Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        fold_network(self, image_size)
