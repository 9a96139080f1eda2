"""Time that networks take for one batch."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn

from mmkdfuse.models.probe import evaluation

_WARM_UP = 3
_LEAST_RUNS = 5


@dataclass(frozen=True)
class Latency:
    """Time of one forward pass.

    Attributes:
        milliseconds: Median over the runs.
        runs: Number of forward passes that were timed.
        batch_size: Images per pass.
        threads: CPU threads.
        device: Device of the weights.
    """

    milliseconds: float
    runs: int
    batch_size: int
    threads: int
    device: str

    @property
    def conditions(self) -> str:
        """Conditions of the measurement, in one line."""
        return (
            f'median of {self.runs} runs, batch size {self.batch_size}, '
            f'{self.threads} CPU thread(s), {self.device}'
        )

    def __str__(self) -> str:
        return f'{self.milliseconds:.2f} ms ({self.conditions})'


def measure_latency(
    model: nn.Module, input_shape: tuple[int, ...], seconds: float = 1.0
) -> Latency:
    """Time the forward pass of one network; see :func:`compare_latency`."""
    return compare_latency({'model': model}, input_shape, seconds)['model']


@torch.no_grad()
def compare_latency(
    models: Mapping[str, nn.Module], input_shape: tuple[int, ...], seconds: float = 1.0
) -> dict[str, Latency]:
    """Time the forward passes of several networks in turn, so that all meet the same disturbances.

    In evaluation mode, without gradients, after a warm-up; at least five runs of each. The mode of
    every submodule is as before afterwards.

    Args:
        models: Modules that take one float tensor, by name; their devices count.
        input_shape: ``(C, H, W)`` for one image, or ``(N, C, H, W)`` for a batch.
        seconds: Average time to measure each network, above 0.

    Raises:
        ValueError: If ``seconds`` or ``input_shape`` is out of range.
    """
    if not seconds > 0:
        raise ValueError(f'seconds={seconds} must be positive.')
    if len(input_shape) not in (3, 4) or min(input_shape) < 1:
        raise ValueError(
            f'input_shape={input_shape} must be (C, H, W) or (N, C, H, W) with positive numbers.'
        )
    shape = (1, *input_shape) if len(input_shape) == 3 else tuple(input_shape)
    images = {}
    for name, model in models.items():
        parameter = next(model.parameters(), torch.empty(0))
        images[name] = torch.zeros(shape, device=parameter.device, dtype=parameter.dtype)
    times: dict[str, list[float]] = {name: [] for name in models}
    with evaluation(*models.values()):
        for name, model in models.items():
            for _ in range(_WARM_UP):
                _timed(model, images[name])
        end = time.perf_counter() + seconds * len(models)
        while any(len(taken) < _LEAST_RUNS for taken in times.values()) or (
            time.perf_counter() < end
        ):
            for name, model in models.items():
                times[name].append(_timed(model, images[name]))
    return {
        name: Latency(
            milliseconds=1000 * median(taken),
            runs=len(taken),
            batch_size=shape[0],
            threads=torch.get_num_threads(),
            device=str(images[name].device),
        )
        for name, taken in times.items()
    }


def _timed(model: nn.Module, image: torch.Tensor) -> float:
    """Seconds of one pass, the device's queue emptied before and after."""
    _finish(image.device)
    start = time.perf_counter()
    model(image)
    _finish(image.device)
    return time.perf_counter() - start


def _finish(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
