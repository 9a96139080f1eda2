"""Classifiers of the branches and of the main network."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmkdfuse.registry import MODELS


@MODELS.register_module()
class BranchHead(BaseModule):
    """One linear classifier per branch; the main network keeps its own (paper 000, sec. 3.2).

    Args:
        num_classes: K.
        in_channels: D, channels of every feature.
        num_features: M, branches and main network.
        main: Config of the main classifier, any mmpretrain head that takes a tuple of features
            (``LinearClsHead``, ``StackedLinearClsHead``); default one linear layer.
            ``num_classes`` and ``in_channels`` are filled in.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_features: int,
        main: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes = num_classes
        self.branches = nn.ModuleList(
            nn.Linear(in_channels, num_classes) for _ in range(num_features - 1)
        )
        self.main = build_main_head(main, num_classes, in_channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return M logits, each (N, K), from M features, each (N, D); the main network's last."""
        if len(features) != len(self.branches) + 1:
            raise ValueError(
                f'BranchHead: got {len(features)} features, built for {len(self.branches) + 1}.'
            )
        pairs = zip(self.branches, features[:-1], strict=True)
        logits = [branch(feature) for branch, feature in pairs]
        return [*logits, self.main((features[-1],))]

    def pre_logits(self, features: Sequence[Tensor]) -> Tensor:
        """The main network's feature as its last linear layer sees it, (N, D')."""
        return self.main.pre_logits((features[-1],))  # type: ignore[operator]


def build_main_head(head: dict | None, num_classes: int, in_channels: int) -> nn.Module:
    """Build a network's own classifier with its class count and channels filled in.

    The default linear layer keeps PyTorch's initialisation, as the reference networks do.
    """
    default = dict(type='mmpretrain.LinearClsHead', init_cfg=None)
    cfg = dict(head) if head else default
    return MODELS.build({**cfg, 'num_classes': num_classes, 'in_channels': in_channels})
