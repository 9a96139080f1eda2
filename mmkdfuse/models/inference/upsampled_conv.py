"""A 3x3 convolution behind nearest upsampling, computed on the small map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Which of the kernel's three taps read the small map's pixel before, at and after an output pixel's
# own, as rows of a matrix; and the first of these pixels, counted from the one before.
_Window = tuple[int, tuple[tuple[int, int, int], ...]]
_ALL: _Window = 0, ((1, 0, 0), (0, 1, 0), (0, 0, 1))
_FIRST: _Window = 0, ((1, 0, 0), (0, 1, 1))
_INNER: _Window = 1, ((1, 1, 1),)
_LAST: _Window = 1, ((1, 1, 0), (0, 0, 1))


def windows(factor: int) -> list[_Window]:
    """Return the taps on the small map of each of the ``factor`` pixels that one pixel becomes."""
    return [_ALL] if factor == 1 else [_FIRST, *(factor - 2) * [_INNER], _LAST]


class UpsampledConv2d(nn.Module):
    """Nearest upsampling to a given size, then a 3x3 convolution with padding 1.

    Upsampling by a whole factor repeats pixels, so the taps that fall on copies of one pixel are
    added up beforehand. For twice the size that makes 16 products for every small pixel, input and
    output channel instead of 36. The sums are kept until the weights change, and not used where
    these need gradients.

    Args:
        in_channels: Channels of the small map.
        out_channels: Channels of the large map.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        conv = nn.Conv2d(in_channels, out_channels, 3)
        self.weight, self.bias = conv.weight, conv.bias
        self._sums: dict[Any, Tensor] = {}
        self._summed: tuple[int, int] | None = None

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the large map (N, out_channels, h, w) from (N, in_channels, H, W).

        Args:
            x: The small map.
            size: (h, w).
        """
        height, width = x.shape[2:]
        if size == (height, width):
            return F.conv2d(x, self.weight, self.bias, padding=1)
        gradients = torch.is_grad_enabled() and self.weight.requires_grad
        if gradients or size[0] % height or size[1] % width:
            return F.conv2d(F.interpolate(x, size), self.weight, self.bias, padding=1)
        rows, columns = windows(size[0] // height), windows(size[1] // width)
        padded = F.pad(x, (1, 1, 1, 1))
        parts = {}
        for row in set(rows):
            for column in set(columns):
                (top, down), (left, across) = row, column
                seen = padded[..., top : top + height + len(down) - 1, :]
                seen = seen[..., left : left + width + len(across) - 1]
                parts[row, column] = F.conv2d(seen, self._sum(down, across), self.bias)
        lines = [torch.stack([parts[row, column] for column in columns], -1) for row in rows]
        return torch.stack(lines, 3).reshape(len(x), len(self.weight), *size)

    def _sum(self, down: Sequence[Sequence[int]], across: Sequence[Sequence[int]]) -> Tensor:
        state = self.weight.data_ptr(), self.weight._version
        if self._summed != state:
            self._sums, self._summed = {}, state
        if (down, across) not in self._sums:
            rows, columns = (torch.tensor(taps).to(self.weight) for taps in (down, across))
            self._sums[down, across] = torch.einsum('tk,oikl,sl->oits', rows, self.weight, columns)
        return self._sums[down, across]
