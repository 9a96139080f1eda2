"""Checks of the arguments that all our backbones share."""

from collections.abc import Sequence

NUM_STAGES = 4
ALL_STAGES = tuple(range(NUM_STAGES))


def check_arguments(
    owner: str, base_channels: int, out_indices: Sequence[int]
) -> tuple[int, tuple[int, ...]]:
    """Return both arguments, the second one as a tuple.

    Args:
        owner: Name of the backbone, for the error message.
        base_channels: Unit of all widths, a positive integer.
        out_indices: Stages whose maps are returned, ascending, from 0 to 3.

    Raises:
        ValueError: If one is out of range.
    """
    if not isinstance(base_channels, int) or base_channels < 1:
        raise ValueError(f'{owner}: base_channels={base_channels!r} must be a positive integer.')
    indices = tuple(out_indices)
    if not indices or list(indices) != sorted(set(indices) & set(ALL_STAGES)):
        raise ValueError(
            f'{owner}: out_indices={indices} must be ascending stage numbers from 0 to '
            f'{NUM_STAGES - 1}.'
        )
    return base_channels, indices
