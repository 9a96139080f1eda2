"""Knowledge fusion module (KFM) of KFMSD."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmkdfuse.registry import MODELS


@MODELS.register_module()
class KFM(BaseModule):
    """Parameter-free attention that fuses n >= 1 feature maps of one shape.

    "Knowledge Fusion Mutual Self-distillation: Each Branch is a Good Teacher" (Jia et al., 2025),
    eqs. 1-5:

        A = mean of the maps f_p                  (1)
        M = (A - spatial mean of A)^2             (2)
        AM = sigmoid(M / (4 v + 4 eps) + 0.5)     (3)
        v = sum of M over space / (H W - 1)       (4)
        FM = mean over the maps of AM * f_p       (5)

    The mask does not depend on p, so FM = AM * A is computed, forward and backward in closed form.
    Statistics are at least in float32 whatever the maps' precision. FM has the first map's
    precision.

    Args:
        eps: Regulariser of the variance, the paper's 1e-4 (eq. 3 adds four times it). Must be > 0.

    Example:
        >>> KFM()([torch.ones(1, 2, 4, 4), torch.ones(1, 2, 4, 4)]).shape
        torch.Size([1, 2, 4, 4])
    """

    def __init__(self, eps: float = 1e-4) -> None:
        super().__init__()
        if not eps > 0:
            raise ValueError(f'KFM: eps={eps} must be positive.')
        self.eps = eps

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Fuse ``maps``, each (N, C, H, W), into one map (N, C, H, W).

        Raises:
            ValueError: If there is no map, the shapes differ, or the maps are of size 1x1 (eq. 4
                divides by H W - 1).
        """
        check_fusible(maps)
        return _Fuse.apply(self.eps, *maps)

    def extra_repr(self) -> str:
        """Show ``eps`` in the printed model."""
        return f'eps={self.eps}'


class _Fuse(torch.autograd.Function):
    """Eqs. 1-5 with the gradient in closed form.

    With the incoming gradient g, means and sums over space:

        d = A - mean(A),  M = d^2,  a = 4 (v + eps),  s = sigmoid(M / a + 0.5)
        w = 2 g A s (1 - s) d / a
        e = w - 4 d sum(w d) / (a (H W - 1))      gradient of d
        g s + e - mean(e)                         gradient of A

    Only the maps are kept for the backward pass, which evaluates A and s again: the layers that
    made the maps keep them anyway. Operations in place are those that autograd can still
    differentiate, so second derivatives are right.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(eps: float, *maps: Tensor) -> Tensor:
        mean, _, _, mask = _attention(maps, eps)
        return mask.mul_(mean).to(maps[0].dtype)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        eps, *maps = inputs
        ctx.eps = eps
        ctx.save_for_backward(*maps)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps = ctx.saved_tensors
        mean, difference, scale, mask = _attention(maps, ctx.eps)
        grad = grad.to(mean.dtype)
        w = torch.ops.aten.sigmoid_backward(grad, mask)  # g s (1 - s)
        w = w.mul_(mean).mul_(difference).mul_(scale * (2 / len(maps)))
        shared = (w * difference).sum(dim=(2, 3), keepdim=True) * scale
        shared = shared * (4 / (mean.shape[2] * mean.shape[3] - 1))
        e = torch.addcmul(w, difference, shared, value=-1)
        e = e.sub_(e.mean(dim=(2, 3), keepdim=True)).addcmul_(grad, mask, value=1 / len(maps))
        return None, *(e.to(feature_map.dtype) for feature_map in maps)


def _attention(maps: Sequence[Tensor], eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A, A - mean(A), 1 / (4 v + 4 eps) and AM of eqs. 1-4, at least in float32."""
    mean = maps[0].to(torch.promote_types(maps[0].dtype, torch.float32))
    for feature_map in maps[1:]:
        mean = mean + feature_map
    if len(maps) > 1:
        mean = mean.div_(len(maps))
    difference = mean - mean.mean(dim=(2, 3), keepdim=True)
    square = difference.square()
    variance = square.sum(dim=(2, 3), keepdim=True) / (mean.shape[2] * mean.shape[3] - 1)
    scale = 1 / (4 * variance + 4 * eps)
    return mean, difference, scale, square.mul_(scale).add_(0.5).sigmoid_()


def check_fusible(maps: Sequence[Tensor]) -> None:
    """Raise ``ValueError`` unless ``maps`` can be fused by :class:`KFM`."""
    if isinstance(maps, Tensor) or len(maps) == 0:
        raise ValueError('KFM: maps must be a non-empty list of (N, C, H, W) tensors.')
    shapes = [tuple(feature_map.shape) for feature_map in maps]
    if len(shapes[0]) != 4 or any(shape != shapes[0] for shape in shapes):
        raise ValueError(f'KFM: maps must share one shape (N, C, H, W), got {shapes}.')
    if shapes[0][2] * shapes[0][3] == 1:
        raise ValueError(
            'KFM: maps of size 1x1 have no spatial variance (eq. 4 divides by H*W-1); '
            "use fuse='none' for this stage."
        )
