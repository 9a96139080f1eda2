"""Accuracy against average MACs of a trained network that is left early."""

import itertools
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mmengine
import torch

from mmkdfuse.analysis.exit_curve import ExitPoint, check_threshold, exit_curve
from mmkdfuse.checkpoint import write_atomically
from mmkdfuse.deploy.early_exit import EarlyExit
from mmkdfuse.engine.launch import ConfigLike, load, load_config, test

THRESHOLDS = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)


@dataclass(frozen=True)
class Fixed:
    """Result of one head for all images.

    Attributes:
        accuracy: In percent.
        macs: MACs per image of the network deployed at this head.
    """

    accuracy: float
    macs: float


@dataclass(frozen=True)
class ExitReport:
    """Result of early exits on a test set.

    Attributes:
        curve: One point per threshold, ascending.
        fixed: Every head alone, by name: ``branch1``, .., ``main``.
        costs: MACs spent on an image that leaves at each head.
        stagewise: Whether deeper stages run for the remaining images only.
        images: Size of the test set.
        folder: Folder of ``exit_curve.json`` and ``exit_curve.png``.
    """

    curve: tuple[ExitPoint, ...]
    fixed: dict[str, Fixed]
    costs: dict[str, int]
    stagewise: bool
    images: int
    folder: Path

    def __str__(self) -> str:
        whole = self.fixed['main'].macs
        titles = ('accuracy', 'M MACs', 'of main', *(f'at {name}' for name in self.costs))
        lines = [_row('threshold', titles)]
        for point in self.curve:
            cells = [*_numbers(point, whole), *(f'{share:.1%}' for share in point.shares)]
            lines.append(_row(f'{point.threshold:g}', cells))
        lines += [_row(f'{name} alone', _numbers(head, whole)) for name, head in self.fixed.items()]
        lines.append(f'{self.images} test images; results in {self.folder}')
        return '\n'.join(lines)


def report_early_exit(
    config: ConfigLike,
    checkpoint: str | os.PathLike,
    *,
    out_dir: str | os.PathLike | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    cfg_options: dict[str, Any] | None = None,
    **overrides: Any,
) -> ExitReport:
    """Score all heads in one pass over the test set, as ``test`` does, and evaluate thresholds.

    Writes ``exit_curve.json`` and ``exit_curve.png``, which are replaced if they exist.

    Args:
        config: Path of the config that was trained, a shipped one's name, or a loaded config.
        checkpoint: File whose keys must match the model's exactly.
        out_dir: Folder of the results and of the log; default ``early_exit`` beside the checkpoint.
        thresholds: Numbers in (0, 1].
        cfg_options: Changes with dotted keys, as in training.
        **overrides: Changes as nested values, as in training.

    Raises:
        FileNotFoundError: There is no such config or checkpoint.
        ValueError: The model has no branches on one network, or a threshold is out of range.
        RuntimeError: The checkpoint is of another network.
    """
    if not thresholds:
        raise ValueError(f'thresholds={thresholds!r} must hold at least one number.')
    values = sorted({check_threshold(threshold) for threshold in thresholds})
    cfg = load_config(config, cfg_options, **overrides)
    # Mistakes are found before the test set is run.
    early_exit = EarlyExit(load(cfg, checkpoint), values[-1])
    costs, alone = early_exit.costs(), early_exit.costs_alone()
    folder = Path(checkpoint).parent / 'early_exit' if out_dir is None else Path(out_dir)
    scores, labels = _scores(cfg, checkpoint, folder)
    curve = exit_curve(scores, labels, list(costs.values()), values)
    hits = 100 * (scores.argmax(dim=-1) == labels[:, None]).double().mean(dim=0)
    fixed = {
        name: Fixed(accuracy, macs)
        for (name, macs), accuracy in zip(alone.items(), hits.tolist(), strict=True)
    }
    report = ExitReport(tuple(curve), fixed, costs, early_exit.stagewise, len(labels), folder)
    _write(report, str(cfg.filename or ''), str(checkpoint))
    return report


def _scores(
    cfg: Any, checkpoint: str | os.PathLike, folder: Path
) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (N, M, K) of all heads for the test set, and labels (N,)."""
    with tempfile.TemporaryDirectory() as temporary:
        dumped = Path(temporary) / 'predictions.pkl'
        test(cfg, checkpoint, work_dir=folder, out=dumped)
        samples = mmengine.load(dumped)
    scores = torch.stack([sample['branch_scores'] for sample in samples])
    return scores, torch.cat([sample['gt_label'] for sample in samples])


def _numbers(point: ExitPoint | Fixed, whole: float) -> list[str]:
    return [f'{point.accuracy:.2f} %', f'{point.macs / 1e6:,.1f}', f'{point.macs / whole:.1%}']


def _row(title: str, cells: Sequence[str]) -> str:
    return f'{title:14}' + ''.join(f'{cell:>12}' for cell in cells)


def _write(report: ExitReport, config: str, checkpoint: str) -> None:
    content = dict(
        config=config,
        checkpoint=checkpoint,
        images=report.images,
        stagewise=report.stagewise,
        macs_when_leaving=report.costs,
        curve=[
            {**asdict(point), 'shares': dict(zip(report.costs, point.shares, strict=True))}
            for point in report.curve
        ],
        heads_alone={name: asdict(head) for name, head in report.fixed.items()},
    )
    text = json.dumps(content, indent=2) + '\n'
    write_atomically(report.folder / 'exit_curve.json', text.encode())
    _draw(report, report.folder / 'exit_curve.png')


def _draw(report: ExitReport, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout='constrained')
    axes = figure.add_subplot()
    points = [(point.macs / 1e6, point.accuracy) for point in report.curve]
    axes.plot(*zip(*points, strict=True), 'o-', markersize=4, label='early exit, by threshold')
    for (name, head), marker in zip(report.fixed.items(), itertools.cycle('sD^vP*X<>')):
        where = head.macs / 1e6, head.accuracy
        axes.plot(*where, marker, markersize=8, label=f'{name} for all images')
    axes.margins(0.08)
    axes.set_xlabel('average cost per image (million MACs)')
    axes.set_ylabel('test accuracy (%)')
    axes.grid(alpha=0.3)
    axes.legend(loc='lower right')  # where a rising curve leaves room
    axes.autoscale_view()  # is put off otherwise, and pixels would be wrong
    labelled: list[Any] = []
    for point, where in zip(report.curve, points, strict=True):
        pixels = axes.transData.transform(where)
        # Where points lie close together, the first one's threshold is enough.
        if all(abs(pixels - other).max() > 35 for other in labelled):
            labelled.append(pixels)
            text = f'{point.threshold:g}'
            axes.annotate(text, where, (0, -12), textcoords='offset points', fontsize=8)
    figure.savefig(path, dpi=150)
