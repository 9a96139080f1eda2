"""Branches of BYOT, in the form of the conference paper and of the journal paper."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import ModuleList, Sequential
from torch import Tensor, nn

from mmkdfuse.models.layers import conv_bn_relu, separable_conv_bn_relu
from mmkdfuse.models.necks.branch_modules import ConvChain, Downsample
from mmkdfuse.models.necks.multi_branch_neck import Branch, MultiBranchNeck
from mmkdfuse.models.probe import StageShape
from mmkdfuse.registry import MODELS

FORMS = ('conference', 'journal')


class Attention(ConvChain):
    """Mask on a map, computed from it at half its size (journal form of BYOT).

    A strided separable convolution, batch norm, ReLU, bilinear upsampling, sigmoid: after the ReLU
    the mask lies in [0.5, 1).
    """

    def __init__(self, channels: int) -> None:
        layers = separable_conv_bn_relu(channels, channels, (2, 2))
        layers += separable_conv_bn_relu(channels, channels)
        super().__init__([*layers, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)])

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighed map, (N, C, H, W) as ``x``."""
        mask = F.interpolate(self.layers(x), size=x.shape[2:], mode='bilinear')
        return torch.sigmoid(mask) * x


def shrink_to(in_shape: StageShape, out_shape: StageShape) -> ConvChain:
    """Bottleneck whose middle convolution does the whole reduction (conference form of BYOT).

    1x1 to a quarter of the outgoing channels, convolution with kernel = stride = ratio of the two
    sizes, 1x1; batch norm and ReLU after each.
    """
    height, width = max(1, in_shape[1] // out_shape[1]), max(1, in_shape[2] // out_shape[2])
    inner = max(1, out_shape[0] // 4)
    return ConvChain(
        conv_bn_relu(in_shape[0], inner)
        + conv_bn_relu(inner, inner, (height, width), (height, width))
        + conv_bn_relu(inner, out_shape[0])
    )


def separable_chain(shapes: Sequence[StageShape]) -> Sequential:
    """One downsampling module for every missing stage."""
    return Sequential(
        *(Downsample(shape, target) for shape, target in zip(shapes[:-1], shapes[1:], strict=True))
    )


class ChainBranch(Branch):
    """One stage's map through a chain of modules to the size of the last stage."""

    def __init__(self, stage: int, layers: nn.Module, pooling: nn.Module | None = None) -> None:
        super().__init__(pooling)
        self.stages_read = stage + 1
        self.layers = layers

    def feature_map(self, stages: Sequence[Tensor]) -> Tensor:
        """Return the map before pooling, (N, C, H, W) of about the last stage's size."""
        return self.layers(stages[self.stages_read - 1])


@MODELS.register_module()
class BYOTNeck(MultiBranchNeck):
    """One branch after every stage but the last, straight to the last stage's shape.

    "Be Your Own Teacher" (Zhang et al., ICCV 2019; "Self-Distillation: Towards Efficient and
    Compact Neural Networks", TPAMI 2021). The branch's convolutions are as in published code: for
    the conference paper that is an unofficial reproduction, for the journal the authors' own.

    Args:
        stage_shapes: (C, H, W) of every stage; filled in by the classifier from a dry run.
        form: ``'conference'``: a bottleneck whose middle convolution has kernel = stride = ratio of
            the sizes; ``'journal'``: attention, then one separable module per missing stage.
        init_cfg: As for :class:`MultiBranchNeck`.
        pooling: Likewise.

    Example:
        >>> import torch
        >>> shapes = [(4, 8, 8), (8, 4, 4), (16, 2, 2)]
        >>> neck = BYOTNeck(shapes)
        >>> [tuple(feature.shape) for feature in neck([torch.zeros(2, *shape) for shape in shapes])]
        [(2, 16), (2, 16), (2, 16)]
    """

    def __init__(
        self,
        stage_shapes: Sequence[StageShape],
        form: str = 'journal',
        init_cfg: dict | list[dict] | None = None,
        pooling: dict | None = None,
    ) -> None:
        super().__init__(stage_shapes, init_cfg, pooling)
        if form not in FORMS:
            raise ValueError(f'BYOTNeck: form={form!r} must be one of {FORMS}.')
        self.branches = ModuleList()
        for stage in range(len(self.stage_shapes) - 1):
            shapes = self.stage_shapes[stage:]
            if form == 'conference':
                layers: nn.Module = shrink_to(shapes[0], shapes[-1])
            else:
                layers = Sequential(Attention(shapes[0][0]), separable_chain(shapes))
            self.branches.append(ChainBranch(stage, layers, self.new_pooling()))
