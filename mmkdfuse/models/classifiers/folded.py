"""A plain classifier in its cheapest form, for inference only."""

from collections.abc import Sequence
from typing import Any

import torch
from mmpretrain.models.classifiers import ImageClassifier
from torch import nn

from mmkdfuse.models.connectors.mbca import MBCAConnector
from mmkdfuse.models.connectors.merged_mbca import MergedMBCAConnector
from mmkdfuse.models.fold import fold_batch_norms
from mmkdfuse.models.necks.aligned_neck import AlignedNeck
from mmkdfuse.models.probe import as_size
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
    generator = torch.Generator().manual_seed(0)
    shape = (_TRIAL_IMAGES, 3, *as_size(image_size))
    fold_batch_norms(network, torch.randn(shape, generator=generator))


@MODELS.register_module()
class FoldedClassifier(ImageClassifier):
    """mmpretrain's ``ImageClassifier``, folded by :func:`fold_network`.

    Its weights are those of a folded network; training it means training without batch norm.

    Args:
        image_size: Side length or (height, width) of the dry run's images, in pixels.
        **kwargs: ``backbone``, ``neck``, ``head``, .. of ``ImageClassifier``.
    """

    def __init__(self, image_size: int | Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        fold_network(self, image_size)
