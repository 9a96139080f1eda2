"""Variance of an alignment target over the training set, as the unit of an error."""

from __future__ import annotations

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn


def channel_variance(target: Tensor) -> Tensor:
    """Variance of every channel over images and pixels, averaged over the channels, a scalar.

    Args:
        target: (N, C, H, W).

    Example:
        >>> channel_variance(torch.tensor([0.0, 2.0]).reshape(2, 1, 1, 1)).item()
        1.0
    """
    return target.float().var(dim=(0, 2, 3), correction=0).mean()


class TargetVariance(nn.Module):
    """Variance of a teacher's map, measured once over the training set and saved with the model.

    A mean squared error divided by it is the share of the target's variance that is unexplained. A
    constant map per channel reaches 1, for every teacher. It is the printed form up to one constant
    factor.

    Example:
        >>> unit = TargetVariance()
        >>> unit.observe(torch.tensor([0.0, 2.0]).reshape(2, 1, 1, 1))
        >>> unit.conclude()
        >>> unit.share_of(torch.tensor(3.0)).item()
        3.0
    """

    variance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('variance', torch.zeros(()))  # 0 until it is measured
        self._sums: Tensor | None = None

    @property
    def is_measured(self) -> bool:
        """Whether there is a variance, measured or loaded."""
        return bool(self.variance > 0)

    def observe(self, target: Tensor) -> None:
        """Take in maps of some images, (N, C, H, W)."""
        x = target.double()
        sums = torch.stack([torch.ones_like(x).sum(dim=(0, 2, 3)), *_moments(x)])
        self._sums = sums if self._sums is None else self._sums + sums

    def conclude(self) -> None:
        """Compute the variance from the observed maps, over all processes.

        Raises:
            RuntimeError: If the target is constant.
        """
        if self._sums is None:
            return
        all_reduce(self._sums)
        count, total, squares = self._sums
        variance = (squares / count - (total / count).square()).mean()
        self._sums = None
        if not variance > 0:
            raise RuntimeError(
                f"normalize='variance': the teacher's map has variance {variance.item():.2g} over "
                'the training set, expected more than 0; check the teacher and the images'
            )
        self.variance.copy_(variance)

    def share_of(self, error: Tensor) -> Tensor:
        """Return an error in units of the variance."""
        return error / self.variance


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.sum(dim=(0, 2, 3)), x.square().sum(dim=(0, 2, 3))
