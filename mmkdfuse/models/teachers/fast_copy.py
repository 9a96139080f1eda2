"""The backbone of a frozen network, rewritten to cost less."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from mmkdfuse.models.inference.fold_batch_norms import fold_batch_norms
from mmkdfuse.models.probe import relative_difference, stage_maps, trial_images

TOLERANCE = 1e-4  # of the largest value of a map
_TRIAL_IMAGES = 2


@torch.no_grad()
@torch.autocast('cpu', enabled=False)
def fast_copy(backbone: nn.Module, image_size: int | Sequence[int]) -> nn.Module:
    """Return a copy with batch norms folded into convolutions and weights in channels-last layout.

    It is made and compared with the original on the CPU and at least in float32. Folding in half
    precision would lose digits, and GPUs may multiply float32 with fewer of them.

    Args:
        backbone: In eval mode, returns a sequence of maps; it stays as it is.
        image_size: Side length or (height, width) of the images of the comparison, in pixels.

    Returns:
        The copy, where the backbone's weights are and of their type.

    Raises:
        ValueError: If a map differs from the original's by more than 1e-4 of its largest value.
    """
    parameter = next(backbone.parameters())
    exact = torch.promote_types(parameter.dtype, torch.float32)
    original = copy.deepcopy(backbone).to('cpu', exact)
    fast = copy.deepcopy(original)
    images = trial_images(_TRIAL_IMAGES, image_size, original)
    fold_batch_norms(fast, images)
    fast.to(memory_format=torch.channels_last)
    expected = stage_maps(original(images), original)
    pairs = zip(stage_maps(fast(images), fast), expected, strict=True)
    for index, (found, wanted) in enumerate(pairs):
        difference = relative_difference(found, wanted)
        # Not `>`, which is false for NaN.
        if not difference <= TOLERANCE:
            raise ValueError(
                f'backbone {type(backbone).__name__}: map {index} of its fast form is off by '
                f'{difference:.2g} of its largest value, expected at most {TOLERANCE:g}.'
            )
    return fast.to(parameter.device, parameter.dtype).requires_grad_(False)
