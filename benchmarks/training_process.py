"""Trains in a process of its own: `python -m benchmarks.training_process JOBS`.

JOBS is a JSON list of keyword arguments of `mmkdfuse.train`. `benchmarks/scaling.py` starts it with
the environment variables of torchrun.
"""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

import benchmarks.random_images  # noqa: F401  registers the dataset
from mmkdfuse import train


@HOOKS.register_module(name='BenchmarkIterationTimes')
class IterationTimes(Hook):
    """Writes the wall time of every iteration but the first, in milliseconds.

    Args:
        out: JSON file.
    """

    priority = 'LOWEST'

    def __init__(self, out: str) -> None:
        self._out = Path(out)
        self._ends: list[float] = []

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        """Ends an iteration."""
        self._ends.append(time.perf_counter())

    def after_train(self, runner) -> None:
        """Writes the times of the first process."""
        times = [1e3 * (end - start) for start, end in pairwise(self._ends)]
        if runner.rank == 0:
            self._out.write_text(json.dumps(times), encoding='utf-8')


@HOOKS.register_module(name='BenchmarkBucketSizes')
class BucketSizes(Hook):
    """Writes how many parameters are in gradient buckets, train, and are there at all.

    Args:
        out: JSON file.
    """

    def __init__(self, out: str) -> None:
        self._out = Path(out)
        self._held: dict[int, int] = {}

    def before_train(self, runner) -> None:
        """Looks into every bucket on its way.

        Raises:
            RuntimeError: The model is not wrapped.
        """
        if not is_model_wrapper(runner.model):
            raise RuntimeError(f'{type(runner.model).__name__} has no gradient buckets.')
        runner.model.register_comm_hook(None, self._reduce)

    def before_train_iter(self, runner, *args, **kwargs) -> None:
        """Forgets the iteration before, after the first of which buckets are rebuilt."""
        self._held.clear()

    def _reduce(self, _state, bucket) -> torch.futures.Future[torch.Tensor]:
        self._held.update({id(p): p.numel() for p in bucket.parameters()})
        return allreduce_hook(torch.distributed.group.WORLD, bucket)

    def after_train(self, runner) -> None:
        """Writes the numbers."""
        model = runner.model.module
        teachers = [p for each in getattr(model, 'teachers', ()) for p in each.parameters()]
        parameters = list(model.parameters())
        record = {
            'in buckets': sum(self._held.values()),
            'trainable': sum(p.numel() for p in parameters if p.requires_grad),
            'with frozen and teacher': sum(p.numel() for p in [*parameters, *teachers]),
        }
        self._out.write_text(json.dumps(record), encoding='utf-8')


def main(jobs: str) -> None:
    """Trains one job after the other on one thread, without checks and validation."""
    torch.set_num_threads(1)
    for job in json.loads(jobs):
        train(**job, preflight=False, validate=False)


if __name__ == '__main__':
    main(*sys.argv[1:])
