"""Poolings: necks of mmpretrain that turn a map into the vector that a classifier reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmkdfuse.models.filled_in import completed
from mmkdfuse.models.probe import StageShape, evaluation
from mmkdfuse.registry import MODELS

POOLING = dict(type='mmpretrain.GlobalAveragePooling')


def build_neck(config: dict, shape: StageShape) -> tuple[nn.Module, int]:
    """Build the neck between a map and a classifier; return it and its channels.

    Args:
        config: Of an mmpretrain neck; ``in_channels`` is filled in where the neck has it.
        shape: (C, H, W) of the map.

    Raises:
        ValueError: If it does not turn one map into one vector per image.
    """
    neck = MODELS.build(completed(config, in_channels=shape[0]))
    try:
        with evaluation(neck), torch.no_grad():
            vector = pooled(neck, torch.ones(1, *shape))
    except Exception as error:
        raise ValueError(
            f'neck.type={config["type"]!r} does not take one map {shape} ({error}), expected a '
            'pooling such as GlobalAveragePooling.'
        ) from error
    if vector.ndim != 2:
        raise ValueError(
            f'neck.type={config["type"]!r} gives shape {tuple(vector.shape)} from a map {shape}, '
            'expected one vector per image, as GlobalAveragePooling gives.'
        )
    return neck, vector.shape[1]


def pooled(neck: nn.Module, feature_map: Tensor) -> Tensor:
    """Return the vectors (N, D) that a neck makes of a map (N, C, H, W)."""
    found = neck((feature_map,))
    return found[-1] if isinstance(found, (tuple, list)) else found
