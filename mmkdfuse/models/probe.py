"""What a network exposes, measured by one dry run on a dummy image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

StageShape = tuple[int, int, int]


def as_size(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Return ``image_size`` as (height, width)."""
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or any(not isinstance(side, int) or side < 1 for side in size):
        raise ValueError(
            f'image_size={image_size!r} must be a positive integer or a (height, width) pair.'
        )
    return size[0], size[1]


def dry_run(
    module: nn.Module, image_size: int | Sequence[int], channels: int = 3, gradients: bool = False
):
    """Run ``module`` once on a black image in eval mode and return its output.

    Weights, buffers, training flags and random state are left as they were; works on any device,
    the meta device included.

    Args:
        module: A network that takes (N, C, H, W).
        image_size: Side length or (height, width), in pixels.
        channels: Channels of the dummy image.
        gradients: Whether the output can be differentiated.
    """
    parameter = next(module.parameters(), torch.empty(0))
    image = torch.zeros(
        (1, channels, *as_size(image_size)), device=parameter.device, dtype=parameter.dtype
    )
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        with torch.set_grad_enabled(gradients):
            return module(image)
    finally:
        for child, training in modes:
            child.training = training


def stage_maps(output, backbone: str) -> tuple[Tensor, ...]:
    """Check that a backbone's output is a sequence of (N, C, H, W) maps and return it as a tuple.

    Raises:
        ValueError: If an output is not a 4-dimensional map, the sentence names the argument; or if
            it is one tensor, whose images mmpretrain's necks and heads would take for maps.
    """
    if isinstance(output, Tensor):
        raise ValueError(f'backbone {backbone}: returns one tensor, expected a tuple of maps.')
    maps = tuple(output)
    for index, feature_map in enumerate(maps):
        shape = tuple(feature_map.shape) if isinstance(feature_map, Tensor) else type(feature_map)
        if not isinstance(feature_map, Tensor) or feature_map.ndim != 4:
            raise ValueError(
                f'backbone {backbone}: output {index} has shape {shape}, expected (N, C, H, W); '
                'set its argument that keeps feature maps (for example '
                '`gap_before_final_norm=False`, `out_type="featmap"`).'
            )
    return maps


def probe_stages(
    backbone: nn.Module, image_size: int | Sequence[int], channels: int = 3
) -> list[StageShape]:
    """Return the (C, H, W) of every stage map of ``backbone`` for images of ``image_size``."""
    maps = stage_maps(dry_run(backbone, image_size, channels), type(backbone).__name__)
    return [
        (feature_map.shape[1], feature_map.shape[2], feature_map.shape[3]) for feature_map in maps
    ]


def freeze_unreached(
    backbone: nn.Module, image_size: int | Sequence[int], channels: int = 3
) -> list[str]:
    """Take the parameters that no stage map depends on out of training; return their names.

    A backbone builds all its layers whatever its ``out_indices``. Those behind the last of them
    would get no gradient, for which distributed training waits.
    """
    trained = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
    maps = [m for m in dry_run(backbone, image_size, channels, gradients=True) if m.requires_grad]
    # Not torch.autograd.grad: activation checkpointing does not work with it.
    if maps:
        torch.stack([feature_map.sum() for feature_map in maps]).sum().backward()
    unreached = [name for name, parameter in trained.items() if parameter.grad is None]
    backbone.zero_grad(set_to_none=True)
    for name in unreached:
        trained[name].requires_grad_(False)
    return unreached
