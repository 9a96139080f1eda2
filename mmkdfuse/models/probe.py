"""Facts about a network, measured by one dry run on a dummy image."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdfuse.structures import StageShape

_NO_CLASSIFIER = 'leave out `num_classes`, which adds a classifier to the backbone'
# Arguments with which mmpretrain's backbones give maps instead of pooled or classified vectors.
_KEEPS_MAPS = {
    'gap_before_final_norm': 'set `gap_before_final_norm=False`',
    'gap_before_output': 'set `gap_before_output=False`',
    'out_type': "set `out_type='featmap'`",
    'reshape_last_feat': 'set `reshape_last_feat=True`',
    'features_only': 'set `features_only=True`',
    'num_classes': _NO_CLASSIFIER,
}
# Arguments that tie a backbone to one image size.
_KNOWS_SIZE = {
    'img_size': 'set `img_size` to it',
    'pad_small_map': 'set `pad_small_map=True`',
    'num_classes': _NO_CLASSIFIER,
}


def as_size(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Return ``image_size`` as (height, width)."""
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or any(not isinstance(side, int) or side < 1 for side in size):
        raise ValueError(
            f'image_size={image_size!r} must be a positive integer or a (height, width) pair.'
        )
    return size[0], size[1]


@contextmanager
def evaluation(*modules: nn.Module) -> Iterator[None]:
    """Put modules into eval mode, and every flag back as it was.

    One by one, because ``train()`` of a network with frozen parts is not the inverse of ``eval()``.
    """
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def trial_images(
    count: int, image_size: int | Sequence[int], like: nn.Module | None = None, channels: int = 3
) -> Tensor:
    """Random images (N, C, H, W), the same every time, to try a network on.

    Not black ones: without biases every map of a black image is zero, and anything would fit.

    Args:
        count: N.
        image_size: Side length or (height, width), in pixels.
        like: Network whose device and type they get.
        channels: C.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((count, channels, *as_size(image_size)), generator=generator)
    return images if like is None else images.to(next(like.parameters(), images))


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference of two tensors over the largest expected value.

    Infinite where shapes differ, NaN where a value is NaN: compare by ``not difference <= limit``.

    Example:
        >>> relative_difference(torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]))
        0.25
    """
    if found.shape != expected.shape:
        return float('inf')
    if not expected.numel():
        return 0.0
    largest = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    return float((found - expected).abs().max() / largest)


def dry_run(
    module: nn.Module,
    image_size: int | Sequence[int],
    channels: int = 3,
    gradients: bool = False,
    training: bool = False,
    call: Callable[[Tensor], Any] | None = None,
):
    """Run ``module`` once on a black image and return its output.

    Weights, buffers, training flags and random state are left as they were; works on any device,
    the meta device included.

    Args:
        module: A network that takes (N, C, H, W).
        image_size: Side length or (height, width), in pixels.
        channels: Channels of the dummy image.
        gradients: Whether the output can be differentiated, by the image too.
        training: Run in train mode; batch norm alone stays in eval mode, because it would change
            its buffers and refuse a single pixel.
        call: Function that is run on the image; default the module.
    """
    parameter = next(module.parameters(), torch.empty(0))
    image = torch.zeros(
        (1, channels, *as_size(image_size)), device=parameter.device, dtype=parameter.dtype
    ).requires_grad_(gradients)
    modes = [(child, child.training) for child in module.modules()]
    module.train(training)
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            child.training = False
    devices = [parameter.device] if parameter.device.type == 'cuda' else []
    try:
        with torch.set_grad_enabled(gradients), torch.random.fork_rng(devices):
            return (call or module)(image)
    finally:
        # Some networks cache weights when the mode changes, hence the call before the flags.
        module.train(modes[0][1])
        for child, mode in modes:
            child.training = mode


def stage_maps(output, backbone: nn.Module | str) -> tuple[Tensor, ...]:
    """Check that a backbone's output is a sequence of (N, C, H, W) maps and return it as a tuple.

    Args:
        output: Result of the backbone.
        backbone: The backbone, or its name, for the error.

    Raises:
        ValueError: If an output is not a 4-dimensional map; the sentence names the arguments of
            this backbone that can change it. Or if it is one tensor, whose images mmpretrain's
            necks and heads would take for maps.
    """
    name = backbone if isinstance(backbone, str) else type(backbone).__name__
    if isinstance(output, Tensor):
        raise ValueError(f'backbone {name}: returns one tensor, expected a tuple of maps.')
    maps = tuple(output)
    for index, feature_map in enumerate(maps):
        is_tensor = isinstance(feature_map, Tensor)
        if is_tensor and feature_map.ndim == 4:
            continue
        found = (
            f'has shape {tuple(feature_map.shape)}'
            if is_tensor
            else f'is a {type(feature_map).__name__}'
        )
        raise ValueError(
            f'backbone {name}: output {index} {found}, expected a map (N, C, H, W); '
            + (_advice(backbone, _KEEPS_MAPS) or 'none of its arguments keeps the maps')
            + '.'
        )
    return maps


def probe_stages(
    backbone: nn.Module, image_size: int | Sequence[int], channels: int = 3
) -> list[StageShape]:
    """Return the (C, H, W) of every stage map of ``backbone`` for images of ``image_size``.

    Raises:
        ValueError: If the backbone cannot process such an image or does not return maps.
    """
    size = as_size(image_size)
    try:
        output = dry_run(backbone, size, channels)
    except Exception as error:
        reason = ' '.join(str(error).split()).rstrip('.') or type(error).__name__
        raise ValueError(
            f'backbone {type(backbone).__name__}: fails on an image of image_size={image_size!r} '
            f'({reason}); '
            + ' or '.join(filter(None, ['change `image_size`', _advice(backbone, _KNOWS_SIZE)]))
            + '.'
        ) from error
    maps = stage_maps(output, backbone)
    return [
        (feature_map.shape[1], feature_map.shape[2], feature_map.shape[3]) for feature_map in maps
    ]


def _advice(backbone: nn.Module | str, arguments: dict[str, str]) -> str:
    """Advice on those of some arguments that the class of the backbone takes."""
    constructors = [vars(cls).get('__init__') for cls in type(backbone).__mro__]
    taken = {a for init in constructors if init for a in inspect.signature(init).parameters}
    return ' or '.join(text for argument, text in arguments.items() if argument in taken)


def find_unreached(
    network: nn.Module, image_size: int | Sequence[int], channels: int = 3
) -> list[str]:
    """Names of the trainable parameters on which no output of ``network`` depends.

    Args:
        network: Returns a tensor or a sequence of tensors.
        image_size: Side length or (height, width), in pixels.
        channels: Channels of the dummy image.
    """
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    # In train mode: in eval mode some networks (LeViT, TinyViT) use cached copies of weights.
    output = dry_run(network, image_size, channels, gradients=True, training=True)
    outputs = [output] if isinstance(output, Tensor) else list(output)
    differentiable = [tensor.sum() for tensor in outputs if tensor.requires_grad]
    # Not torch.autograd.grad: activation checkpointing does not work with it.
    if differentiable:
        torch.stack(differentiable).sum().backward()
    unreached = [name for name, parameter in trained.items() if parameter.grad is None]
    network.zero_grad(set_to_none=True)
    return unreached


def freeze_unreached(
    backbone: nn.Module, image_size: int | Sequence[int], channels: int = 3
) -> list[str]:
    """Take the parameters that no stage map depends on out of training; return their names.

    A backbone builds all its layers whatever its ``out_indices``. Those behind the last of them
    would get no gradient, for which distributed training waits.
    """
    unreached = find_unreached(backbone, image_size, channels)
    for name in unreached:
        backbone.get_parameter(name).requires_grad_(False)
    return unreached
