"""Record of a run, for documents that quote its figures."""

import json
import platform
import sys
from pathlib import Path

import torch
from mmengine.runner import Runner

from mmkdfuse.checkpoint import write_atomically
from mmkdfuse.version import __version__

METRICS_FILE = 'metrics.json'


def last_validation(runner: Runner) -> dict[str, float]:
    """Return the metrics of the last validation, of one before a resume too; empty without one."""
    if runner.val_loop is None:
        return {}
    return {
        name.removeprefix('val/'): float(values.current())
        for name, values in runner.message_hub.log_scalars.items()
        if name.startswith('val/') and not name.endswith(('/time', '/data_time'))
    }


def write_record(runner: Runner, metrics: dict[str, float]) -> None:
    """Write ``metrics.json``: metrics, command, seed, time, hardware and versions of a run.

    ``seconds`` counts the training iterations, those before a resume included, without validation
    and saving.
    """
    hub = runner.message_hub
    times = hub.log_scalars.get('train/time')
    record = dict(
        config=runner.cfg.filename,
        command=' '.join(sys.argv),
        seed=runner.seed,
        epochs=runner.epoch,
        metrics=metrics,
        best=hub.runtime_info.get('best_score'),
        seconds=round(float(times.data[0].sum()), 1) if times else None,
        processes=runner.world_size,
        threads=torch.get_num_threads(),
        device=_device_name(),
        versions=dict(
            mmkdfuse=__version__, torch=torch.__version__, python=platform.python_version()
        ),
    )
    path = Path(runner.work_dir) / METRICS_FILE
    write_atomically(path, json.dumps(record, indent=2, default=str).encode())


def _device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()
