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
    eqs. 1-5: A = mean of the maps (1); M = (A - spatial mean of A)^2 (2);
    AM = sigmoid(M / (4 v + 4 eps) + 0.5) (3) with v = sum of M over space / (H W - 1) (4);
    FM = mean over the maps of AM * f_p (5). The mask does not depend on p, so FM = AM * A, which
    is what is computed. Statistics are in float32 whatever the maps' precision.

    Args:
        eps: Regulariser of the variance, the paper's 1e-4 (eq. 3 adds four times it). Must be > 0.
    """

    def __init__(self, eps: float = 1e-4, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
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
        # Autocast would run the squares in half precision.
        with torch.autocast(maps[0].device.type, enabled=False):
            mean = maps[0].float()
            for feature_map in maps[1:]:
                mean = mean + feature_map.float()
            fused = _Attend.apply(mean / len(maps), self.eps)
        return fused.to(maps[0].dtype)

    def extra_repr(self) -> str:
        """Show ``eps`` in the printed model."""
        return f'eps={self.eps}'


class _Attend(torch.autograd.Function):
    """AM * A of eqs. 2-5 with its gradient in closed form.

    With d = A - mean(A), M = d^2, a = 4 (v + eps), s = sigmoid(M / a + 0.5) and the incoming
    gradient g: let u = g A s (1 - s) / a. The gradient of M is u - 4 sum(u M) / (a (H W - 1)), that
    of A is g s + 2 d dM minus the spatial mean of the second part. Only A and two numbers per
    channel are kept for the backward pass.
    """

    @staticmethod
    def forward(ctx, mean: Tensor, eps: float) -> Tensor:
        rows = mean.reshape(mean.shape[0], mean.shape[1], -1)
        variance, centre = torch.var_mean(rows, dim=-1, keepdim=True)  # unbiased: eq. 4
        scale = (variance + eps).mul_(4).reciprocal_()
        ctx.save_for_backward(rows, centre, scale)
        return _mask(rows, centre, scale).mul_(rows).view(mean.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        rows, centre, scale = ctx.saved_tensors
        flat = grad.reshape(rows.shape)
        mask = _mask(rows, centre, scale)
        direct = flat * mask
        u = (1 - mask).mul_(direct).mul_(rows).mul_(scale)
        difference = rows - centre
        shared = torch.einsum('nci,nci,nci->nc', u, difference, difference).unsqueeze(-1)
        through = u.sub_(shared * scale * (4 / (rows.shape[-1] - 1))).mul_(difference).mul_(2)
        direct.add_(through).sub_(through.mean(dim=-1, keepdim=True))
        return direct.view(grad.shape), None


def _mask(rows: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
    """AM of eq. 3 for rows (N, C, H*W)."""
    return (rows - centre).square_().mul_(scale).add_(0.5).sigmoid_()


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
