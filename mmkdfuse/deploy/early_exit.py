"""Prediction that stops at the first confident branch."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmkdfuse.analysis.cost import count_cost
from mmkdfuse.analysis.exit_curve import check_threshold
from mmkdfuse.deploy.stagewise import StageRun, StagewiseBackbone
from mmkdfuse.models.classifiers.predictions import make_predictions
from mmkdfuse.models.classifiers.trainable import Trainable
from mmkdfuse.models.probe import as_size

MAIN = 'main'


class EarlyExit(nn.Module):
    """Network with branches that runs only as deep as every image needs.

    Not part of the paper. An image whose largest softmax probability at a branch reaches the
    threshold leaves with that branch's prediction. The other images go deeper, and the last ones
    leave at the main head. No stage is computed twice. Predictions are those of the whole model's
    head of the same name.

    The model is shared, not copied, and put into eval mode, in which it stays.

    Args:
        model: A trained ``BranchedClassifier``: KFMSD, BYOT, FKD.
        threshold: Probability in (0, 1] from which on images leave; one for all exits, or one for
            each of them.
        exits: Branches that may be left at, from 1, ascending; default all. The others are not
            computed.

    Raises:
        ValueError: If the model has no branches on one network, or an argument is out of range.

    Example:
        >>> from mmkdfuse.models import KFMSD
        >>> model = KFMSD(dict(arch='resnet18', base_channels=4), num_classes=10, image_size=32)
        >>> early_exit = EarlyExit(model, threshold=0.01)  # so low that all leave at once
        >>> [sample.exit for sample in early_exit.predict(torch.zeros(2, 3, 32, 32))]
        ['branch1', 'branch1']
    """

    def __init__(
        self,
        model: nn.Module,
        threshold: float | Sequence[float],
        exits: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, Trainable):
            raise ValueError(f'model={type(model).__name__} is no classifier of this package.')
        branches = model.exits()
        count = len(branches)
        self.exits = tuple(range(1, count + 1) if exits is None else exits)
        if not self.exits or sorted(set(self.exits) & set(range(1, count + 1))) != [*self.exits]:
            raise ValueError(f'exits={exits!r} must be ascending branch numbers from 1 to {count}.')
        self.thresholds = _thresholds(threshold, len(self.exits))
        plain = model.deployed()
        self._main_neck, self._main_head = plain.neck, plain.head
        self.model = model
        self.eval()
        self._paths = nn.ModuleList(branches[number - 1][0] for number in self.exits)
        self._heads = nn.ModuleList(branches[number - 1][1] for number in self.exits)
        self._stages = StagewiseBackbone(model.backbone, model.image_size, len(model.stage_shapes))
        if not self.stagewise:
            print_log(
                f'EarlyExit: {type(model.backbone).__name__} cannot be continued from stage to '
                'stage, so that all stages run before the first exit and only branches are saved.',
                logger='current',
                level=30,
            )

    @property
    def stagewise(self) -> bool:
        """Whether deeper stages run for the remaining images only; else for all, before exit 1."""
        return self._stages.stagewise

    @property
    def exit_names(self) -> tuple[str, ...]:
        """Heads at which images leave, shallow to deep: ``branch1``, .., ``main``."""
        return (*(f'branch{number}' for number in self.exits), MAIN)

    def train(self, mode: bool = True) -> 'EarlyExit':
        """Stay in eval mode, whatever ``mode`` says: there is nothing to train."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[DataSample]:
        """Predict; see :meth:`predict`."""
        return self.predict(images)

    @torch.no_grad()
    def predict(
        self, images: Tensor, data_samples: Tensor | Sequence[DataSample] | None = None
    ) -> list[DataSample]:
        """Classify images.

        Args:
            images: Normalised, (N, 3, H, W).
            data_samples: Labels (N,), or samples to fill in.

        Returns:
            One sample per image with ``pred_score`` (K,), ``pred_label`` (1,) and ``exit``, the
            name of the head at which it left.
        """
        rows = torch.arange(len(images), device=images.device)
        taken = torch.full_like(rows, len(self.exits))
        chosen = images.new_empty(len(images), self.model.num_classes, dtype=torch.float32)
        run = self._stages.start(images)
        for number, threshold in enumerate(self.thresholds):
            logits = self._logits(number, run)
            leaves = logits.softmax(dim=-1).amax(dim=-1) >= threshold
            chosen[rows[leaves]], taken[rows[leaves]] = logits[leaves], number
            stays = (~leaves).nonzero().flatten()
            if len(stays) < len(rows):
                rows = rows[stays]
                if len(rows) == 0:
                    break
                run.keep(stays)
        else:
            chosen[rows] = self._logits(len(self.exits), run)
        samples = make_predictions(chosen, data_samples)
        for sample, number in zip(samples, taken.tolist(), strict=True):
            sample.set_field(self.exit_names[number], 'exit', dtype=str)
        return samples

    def costs(self) -> dict[str, int]:
        """MACs spent on an image that leaves at each head: all exits up to it are computed."""
        return {name: self._macs(range(number + 1)) for number, name in enumerate(self.exit_names)}

    def costs_alone(self) -> dict[str, int]:
        """MACs of each head without the other ones, as if the network were deployed at it."""
        return {name: self._macs([number]) for number, name in enumerate(self.exit_names)}

    def _macs(self, numbers: Sequence[int]) -> int:
        shape = (3, *as_size(self.model.image_size))
        return count_cost(_Heads(self, numbers), shape).macs

    def _logits(self, number: int, run: StageRun) -> Tensor:
        """Logits (N, K) in float32 of an exit, from 0, the main head last."""
        if number == len(self.exits):
            maps = run.maps(self._stages.stages)
            return self._main_head(self._main_neck(maps[-1:])).float()
        path: Any = self._paths[number]
        return self._heads[number](path(run.maps(path.stages_read))).float()


class _Heads(nn.Module):
    """Some heads, computed for all images."""

    def __init__(self, early_exit: EarlyExit, numbers: Sequence[int]) -> None:
        super().__init__()
        self.early_exit = early_exit
        self.numbers = numbers

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the logits (N, K) of every head, and the maps, of which none must go uncounted."""
        run = self.early_exit._stages.start(images)
        logits = [self.early_exit._logits(number, run) for number in self.numbers]
        return [*logits, *run.known]


def _thresholds(threshold: float | Sequence[float], exits: int) -> tuple[float, ...]:
    values = tuple(threshold) if isinstance(threshold, Sequence) else (threshold,) * exits
    if len(values) != exits:
        raise ValueError(
            f'threshold={threshold!r} must be one number or {exits}, one for each exit.'
        )
    return tuple(map(check_threshold, values))
