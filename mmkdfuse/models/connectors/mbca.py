"""Multibranch channel alignment (MBCA) of MFAKD."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleDict
from torch import Tensor, nn

from mmkdfuse.models.layers import conv_bn_relu
from mmkdfuse.registry import MODELS

UPSAMPLING = ('nearest', 'bilinear', 'transposed', None)


def _conv3x3(in_channels: int, out_channels: int) -> list[nn.Module]:
    return conv_bn_relu(in_channels, out_channels, 3, padding=(1, 1))


def _pointwise(c_s: int, c_t: int, inner: int) -> list[nn.Module]:
    return conv_bn_relu(c_s, c_t)


def _bottleneck(c_s: int, c_t: int, inner: int) -> list[nn.Module]:
    return conv_bn_relu(c_s, inner) + _conv3x3(inner, inner) + conv_bn_relu(inner, c_t)


def _sandglass(c_s: int, c_t: int, inner: int) -> list[nn.Module]:
    return _conv3x3(c_s, c_t) + _waist(c_t, inner)


def _sandglass_plus(c_s: int, c_t: int, inner: int) -> list[nn.Module]:
    return _sandglass(c_s, c_t, inner) + _waist(c_t, inner)


def _waist(channels: int, inner: int) -> list[nn.Module]:
    return (
        conv_bn_relu(channels, inner) + conv_bn_relu(inner, channels) + _conv3x3(channels, channels)
    )


BRANCHES = {
    'bottleneck': _bottleneck,
    'sandglass': _sandglass,
    'sandglass_plus': _sandglass_plus,
    'pointwise': _pointwise,
}


@MODELS.register_module()
class MBCAConnector(BaseModule):
    """Parallel projectors that bring the student's map to the teacher's size and channels.

    "Aligning to the teacher: multilevel feature-aligned knowledge distillation" (Zhang et al.,
    2025). The student's last map goes through several projectors side by side, and the mean of
    their outputs approximates the teacher's last map. With m = C_t / ``reduction``:

    - ``bottleneck``: 1x1 C_s -> m, 3x3 m -> m, 1x1 m -> C_t
    - ``sandglass``: 3x3 C_s -> C_t, 1x1 C_t -> m, 1x1 m -> C_t, 3x3 C_t -> C_t
    - ``sandglass_plus``: the sandglass, then once more 1x1 C_t -> m, 1x1 m -> C_t, 3x3 C_t -> C_t
    - ``pointwise``: 1x1 C_s -> C_t, for the ablation of spatial alignment alone

    As in the released code and the paper's printed costs, convolutions are dense and without bias,
    batch norm and ReLU follow every one, and there is no shortcut.

    Args:
        in_channels: C_s, channels of the student's map.
        out_channels: C_t, channels of the teacher's map.
        reduction: Ratio of C_t to the inner channels m, at least 1; the paper's 2. ``pointwise``
            has none.
        branches: Projectors that run side by side, any subset of the above.
        upsample: How a smaller student map becomes as large as the teacher's: ``'nearest'``,
            ``'bilinear'``, ``'transposed'`` (4x4 stride 2 convolutions, one for every doubling) or
            None. With None it stays as it is and the teacher's map is pooled.
        scale: Side of the teacher's map over the student's, filled in from the probed sizes; only
            the transposed convolutions need it, as a power of two.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> connector = MBCAConnector(in_channels=8, out_channels=16)
        >>> connector(torch.zeros(1, 8, 4, 4), size=(8, 8)).shape
        torch.Size([1, 16, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        reduction: int = 2,
        branches: Sequence[str] = ('bottleneck', 'sandglass', 'sandglass_plus'),
        upsample: str | None = 'nearest',
        scale: float = 1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not 1 <= reduction <= out_channels:
            raise ValueError(
                f'MBCAConnector: reduction={reduction} must be from 1 to '
                f'out_channels={out_channels}.'
            )
        if not branches or len(set(branches)) < len(branches) or not set(branches) <= set(BRANCHES):
            raise ValueError(
                f'MBCAConnector: branches={tuple(branches)} must be different names from '
                f'{tuple(BRANCHES)}.'
            )
        if upsample not in UPSAMPLING:
            raise ValueError(f'MBCAConnector: upsample={upsample!r} must be one of {UPSAMPLING}.')
        self.arguments = dict(
            in_channels=in_channels,
            out_channels=out_channels,
            reduction=reduction,
            branches=tuple(branches),
            upsample=upsample,
            scale=scale,
        )
        self.upsample = upsample
        inner = out_channels // reduction
        self.branches = ModuleDict(
            {
                name: nn.Sequential(*BRANCHES[name](in_channels, out_channels, inner))
                for name in branches
            }
        )
        self.doublings = nn.Sequential()
        if upsample == 'transposed':
            doublings = max(0, round(math.log2(scale)))
            if scale > 1 and 2**doublings != scale:
                raise ValueError(
                    f'MBCAConnector: scale={scale} must be a power of two for '
                    "upsample='transposed'."
                )
            for _ in range(doublings):
                self.doublings.append(nn.ConvTranspose2d(in_channels, in_channels, 4, 2, 1))

    def forward(self, student_map: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the aligned map, (N, C_t, H_t, W_t).

        Args:
            student_map: (N, C_s, H_s, W_s).
            size: (H_t, W_t) of the teacher's map. A larger student map is average-pooled to it; a
                smaller one is upsampled, or stays as it is with ``upsample=None``.
        """
        x = self.resize(student_map, size)
        outputs = [branch(x) for branch in self.branches.values()]
        return sum(outputs[1:], start=outputs[0]) / len(outputs)

    def resize(self, student_map: Tensor, size: tuple[int, int]) -> Tensor:
        """Spatial alignment, (N, C_s, H_s, W_s) -> (N, C_s, H_t, W_t)."""
        height, width = student_map.shape[2:]
        if (height, width) == tuple(size):
            return student_map
        if height >= size[0] and width >= size[1]:
            return F.adaptive_avg_pool2d(student_map, size)
        if self.upsample is None:
            return student_map
        if self.upsample == 'transposed':
            x = self.doublings(student_map)
            return x if x.shape[2:] == tuple(size) else F.interpolate(x, size)
        return F.interpolate(student_map, size, mode=self.upsample)
