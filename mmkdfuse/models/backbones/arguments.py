"""Checks of the arguments that all our backbones share."""

from collections.abc import Sequence
from typing import Any

NUM_STAGES = 4
ALL_STAGES = tuple(range(NUM_STAGES))
THREE_STAGES = tuple(range(3))


def check_arguments(
    owner: str,
    base_channels: int,
    out_indices: Sequence[int],
    stages: Sequence[int] = ALL_STAGES,
    multiple_of: int = 1,
) -> tuple[int, tuple[int, ...]]:
    """Return both arguments, the second one as a tuple.

    Args:
        owner: Name of the backbone, for the error message.
        base_channels: Unit of all widths, a positive integer.
        out_indices: Stages whose maps are returned, ascending, out of ``stages``.
        stages: All stages of the backbone.
        multiple_of: Number by which ``base_channels`` must be divisible for all widths to be
            integers.

    Raises:
        ValueError: If one is out of range.
    """
    if not isinstance(base_channels, int) or base_channels < 1 or base_channels % multiple_of:
        expected = f'integer divisible by {multiple_of}' if multiple_of > 1 else 'integer'
        raise ValueError(f'{owner}: base_channels={base_channels!r} must be a positive {expected}.')
    indices = tuple(out_indices)
    if not indices or list(indices) != sorted(set(indices) & set(stages)):
        raise ValueError(
            f'{owner}: out_indices={indices} must be ascending stage numbers from 0 to '
            f'{stages[-1]}.'
        )
    return base_channels, indices


# Arguments of mmpretrain's ResNets with their defaults, which some of its blocks and stems lack.
_DEFAULTS = {'style': 'pytorch', 'expansion': 1, 'deep_stem': False}


def refuse_unused(owner: str, **given: Any) -> None:
    """Raise if an argument that a network inherits, and has no use for, is set.

    Args:
        owner: Name of the backbone, for the error message.
        **given: Values by argument, None where it is not set.

    Raises:
        ValueError: If one is neither None nor mmpretrain's default.
    """
    for name, value in given.items():
        if value not in (None, _DEFAULTS[name]):
            raise ValueError(
                f'{owner}: {name}={value!r} would be ignored, because its blocks and stem have no '
                f'such choice, expected {_DEFAULTS[name]!r} or nothing.'
            )
