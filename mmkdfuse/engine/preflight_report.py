"""Facts that a preflight found, as they are shown before training."""

import os
from dataclasses import dataclass, field

from mmengine.dist import get_world_size

from mmkdfuse.analysis.cost import Cost


@dataclass
class PreflightReport:
    """Facts about a planned run, measured on a batch of two images.

    Attributes:
        model: Class of the model.
        parameters: Number of parameters in training.
        trainable: Number of those that the optimiser changes.
        deployed: Cost of the network that is left after training.
        input_shape: (C, H, W) of the images.
        plan: Lines on stage shapes and branches.
        images: Number of images of every split; empty where the data were not looked at.
        batch_size: Images per step, over all processes.
        losses: Value of every term before training.
        loss_scale: Size of every term's gradient on the backbone, beside weight decay's.
        metrics: Names that validation will log.
        warnings: Problems at which training would stop.
        advice: What is valid and perhaps not meant.
    """

    model: str = ''
    parameters: int = 0
    trainable: int = 0
    deployed: Cost | None = None
    input_shape: tuple[int, ...] = ()
    plan: list[str] = field(default_factory=list)
    images: dict[str, int] = field(default_factory=dict)
    batch_size: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    loss_scale: str = ''
    metrics: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        shape = 'x'.join(map(str, self.input_shape))
        lines = [f'{self.model}: {self.parameters:,} parameters, {self.trainable:,} trainable']
        lines += [f'deployed: {self.deployed} at {shape}'] if self.deployed else []
        lines += self.plan
        if self.images:
            lines.append('images: ' + ', '.join(f'{k} {n:,}' for k, n in self.images.items()))
        lines.append(f'batch size: {self.batch_size} in {processes()} process(es)')
        if self.losses:
            terms = ', '.join(f'{name} {value:.3g}' for name, value in self.losses.items())
            lines.append(f'terms: {terms}')
        lines += [f'their pull at the backbone: {self.loss_scale}'] if self.loss_scale else []
        lines += [f'validation logs: {", ".join(self.metrics)}'] if self.metrics else []
        lines += [f'but training would stop: {warning}' for warning in self.warnings]
        lines += [f'warning: {each}' for each in self.advice]
        return '\n'.join(['Preflight passed', *(f'  {line}' for line in lines)])


def processes() -> int:
    """Number of processes of this run, started or about to be."""
    # torchrun tells before the process group exists
    return max(get_world_size(), int(os.environ.get('WORLD_SIZE', 1)))
