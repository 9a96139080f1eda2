"""The projectors of MFAKD as they ship: the same map for fewer operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkdfuse.models.connectors.mbca import MBCAConnector
from mmkdfuse.models.fold import fuse
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class MergedMBCAConnector(MBCAConnector):
    """What an :class:`MBCAConnector` in eval mode computes, rearranged without changing it.

    Not part of the paper. For inference; its weights come from :meth:`merge`.

    - Batch norms are folded into the convolutions, and the mean over the projectors into the last
      one of each: relu(x) / n = relu(x / n).
    - The 3x3 convolutions with which the sandglasses start read the same map and become one.
    - Behind nearest upsampling by a whole factor f such a convolution is a transposed one of the
      small map, kernel f + 2, stride f: (f + 2)^2 instead of 9 f^2 products for every pixel,
      input and output channel.
    - 1x1 convolutions with which projectors start run before nearest upsampling.

    Args:
        *args: As for :class:`MBCAConnector`.
        **kwargs: Likewise.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        branches = self.branches
        del self.branches
        scale: Any = self.arguments['scale']
        self.factor = int(scale) if self.upsample == 'nearest' and scale % 1 == 0 else 1
        self._take(branches.eval())

    @classmethod
    def merge(cls, connector: MBCAConnector) -> MergedMBCAConnector:
        """Return the merged form of a trained connector."""
        merged = cls(**connector.arguments)
        training = {module: module.training for module in connector.modules()}
        merged._take(connector.eval().branches)
        for module, mode in training.items():
            module.training = mode
        merged.doublings.load_state_dict(connector.doublings.state_dict())
        return merged.to(next(connector.parameters())).eval()

    @torch.no_grad()
    def _take(self, branches: Any) -> None:
        firsts: dict[str, Any] = {}
        self.tails = nn.ModuleDict()
        for name, layers in branches.items():
            pairs = zip(layers[::3], layers[1::3], strict=True)
            convs: list[Any] = [fuse(conv, norm) for conv, norm in pairs]
            for part in (convs[-1].weight, convs[-1].bias):
                part /= len(branches)
            firsts[name] = convs[0]
            tail = [layer for conv in convs[1:] for layer in (conv, nn.ReLU(inplace=True))]
            self.tails[name] = nn.Sequential(*tail)
        wide = [name for name, conv in firsts.items() if conv.kernel_size != (1, 1)]
        self.pointwise = nn.ModuleDict(
            {name: conv for name, conv in firsts.items() if name not in wide}
        )
        self.wide_names = tuple(wide)
        self.wide: nn.Module | None = None
        if wide:
            weight = torch.cat([firsts[name].weight for name in wide])
            bias = torch.cat([firsts[name].bias for name in wide])
            self.wide = self._build_wide(weight, bias)

    def _build_wide(self, weight: Tensor, bias: Tensor) -> nn.Module:
        channels_out, channels_in = weight.shape[:2]
        f = self.factor
        conv: nn.Module
        if f == 1:
            conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        else:
            conv = nn.ConvTranspose2d(channels_in, channels_out, f + 2, stride=f, padding=1)
            weight = spread(weight, f)
        conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
        return conv

    def forward(self, student_map: Tensor, size: Sequence[int]) -> Tensor:
        """Return the aligned map, as :class:`MBCAConnector`."""
        size = (size[0], size[1])
        height, width = student_map.shape[2:]
        larger = height < size[0] or width < size[1]
        # Nearest upsampling copies pixels, so what acts on single pixels may come before it.
        late = larger and self.upsample == 'nearest'
        x = student_map if late else self.resize(student_map, size)
        starts = {}
        for name, conv in self.pointwise.items():
            start = conv(x).relu_()
            starts[name] = F.interpolate(start, size) if late else start
        if self.wide is not None:
            start = self._wide(x, size, late).relu_()
            parts = start.chunk(len(self.wide_names), dim=1)
            starts.update(zip(self.wide_names, parts, strict=True))
        outputs = [self.tails[name](start) for name, start in starts.items()]
        return sum(outputs[1:], start=outputs[0])

    def _wide(self, x: Tensor, size: tuple[int, int], late: bool) -> Tensor:
        wide: Any = self.wide
        if self.factor == 1:
            return wide(F.interpolate(x, size) if late else x)
        if (x.shape[2] * self.factor, x.shape[3] * self.factor) == size:
            return wide(x)
        # An image of another shape than the probed one's may need another ratio.
        x = F.interpolate(x, size) if late else x
        return F.conv2d(x, gather(wide.weight), wide.bias, padding=1)


def spread(weight: Tensor, factor: int) -> Tensor:
    """Kernel of the transposed convolution that upsamples and convolves in one.

    Nearest upsampling by f and a 3x3 convolution w with padding 1 make a transposed convolution of
    stride f and padding 1 whose kernel, of f + 2 taps a side, holds at t the sum of all w[k] with
    0 <= t + k - 2 < f, in both directions.

    Args:
        weight: (O, I, 3, 3).
        factor: f >= 2.

    Returns:
        (I, O, f + 2, f + 2).
    """
    taps, own = torch.arange(factor + 2)[:, None], torch.arange(3)
    copied = ((taps + own >= 2) & (taps + own < factor + 2)).to(weight)
    return torch.einsum('tk,oikl,sl->iots', copied, weight, copied)


def gather(weight: Tensor) -> Tensor:
    """Invert :func:`spread`: (I, O, f + 2, f + 2) to (O, I, 3, 3)."""
    for dim in (2, 3):
        first, second, last = (weight.select(dim, tap) for tap in (0, 1, -1))
        weight = torch.stack([last, second - first, first], dim)
    return weight.transpose(0, 1)
