"""(h) Two processes beside one, and what their gradient buckets hold."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Options, Row, Timing, ratio
from benchmarks.random_images import random_images
from mmkdfuse.engine.launch import load_config
from mmkdfuse.models import Classifier

TITLE = 'two processes (gloo, one thread each, always on the CPU) / one process'

KFMSD = 'kfmsd/resnet18_cifar100'
MFAKD = 'mfakd/resnet32x4_resnet8x4_cifar100'
NUM_CLASSES = 100
NARROW = {'model.backbone': dict(_delete_=True, arch='resnet18', base_channels=4, stem_channels=4)}
ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 1800  # seconds


def measure(options: Options) -> list[Row]:
    """Trains through the Runner in processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        return [_speed(options, Path(folder)), *_buckets(Path(folder))]


def _speed(options: Options, folder: Path) -> Row:
    """Wall time: a process that waits for the other's gradients computes nothing."""
    batch, warmup, timed = (8, 1, 2) if options.short else (64, 2, 5)
    # A launch takes longer than what it times, so that there are fewer than rounds.
    launches = 1 if options.short else max(2, options.rounds // 3)
    changes = NARROW if options.short else {}
    rounds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(launches):
        for processes, milliseconds in rounds.items():
            images = batch * processes * (1 + warmup + timed)
            launcher = 'none' if processes == 1 else 'pytorch'
            hook = 'BenchmarkIterationTimes'
            job = _job(KFMSD, changes, folder, hook, batch, images, launcher)
            (times,) = _run([job], processes)
            milliseconds += times[warmup:]
    # Two processes take two batches in an iteration.
    timings = {
        f'{processes} process(es), per {batch} images': Timing.of(
            [each / processes for each in milliseconds], timed
        )
        for processes, milliseconds in rounds.items()
    }
    case = f'images/s of KFMSD training, 2 processes x {batch} / 1 process x {batch}'
    one, two = timings
    return ratio(case, timings, one, two, target='>= 1.7')


def _buckets(folder: Path) -> list[Row]:
    """Parameters whose gradients processes exchange, beside those that train."""
    changes = {KFMSD: {}, MFAKD: _with_teacher(MFAKD, folder)}
    hook = 'BenchmarkBucketSizes'
    # Of one process, whose buckets are those of many.
    jobs = [_job(name, changes[name], folder, hook, 2, 4, 'pytorch') for name in changes]
    return [
        Row(
            f'{name}: parameters in gradient buckets / trainable parameters',
            record['in buckets'] / record['trainable'],
            target='== 1',
            details=record,
        )
        for name, record in zip(('KFMSD', 'MFAKD'), _run(jobs, 1), strict=True)
    ]


def _with_teacher(config: str, folder: Path) -> dict[str, Any]:
    """Changes that give a distiller a teacher with random weights."""
    model = load_config(config).model
    teacher = Classifier(model.teacher.arch, model.num_classes, model.image_size)
    path = folder / 'teacher.pth'
    torch.save(teacher.state_dict(), path)
    return {'model.teacher.checkpoint': str(path), 'model.verify_teacher': False}


def _job(
    config: str,
    changes: dict[str, Any],
    folder: Path,
    hook: str,
    batch: int,
    images: int,
    launcher: str,
) -> dict[str, Any]:
    """Arguments of `mmkdfuse.train` for one epoch of random images.

    Args:
        config: Name of a shipped config.
        changes: To it, with dotted keys.
        folder: For what the run and the hook write.
        hook: Of `training_process.py`.
        batch: Images of a process in an iteration.
        images: Of all processes together.
        launcher: `none`, or `pytorch` for gradient buckets, also with one process.
    """
    cfg_options = {
        'train_dataloader.dataset': random_images(images, NUM_CLASSES),
        'train_dataloader.batch_size': batch,
        'train_cfg.max_epochs': 1,
        'default_hooks.checkpoint': None,  # nothing is saved
        'custom_hooks': [dict(type=hook, out=str(folder / f'{Path(config).name}.json'))],
        'log_level': 'WARNING',
        **changes,
    }
    work_dir = str(folder / config)
    return dict(config=config, cfg_options=cfg_options, work_dir=work_dir, launcher=launcher)


def _run(jobs: list[dict[str, Any]], processes: int) -> list[Any]:
    """Runs jobs in processes of their own and returns what the hook of each wrote.

    Raises:
        RuntimeError: A process ended with an error.
    """
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',  # gloo, as on a machine without a GPU
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': str(port),
        'WORLD_SIZE': str(processes),
    }
    started = [
        subprocess.Popen(
            [sys.executable, '-m', 'benchmarks.training_process', json.dumps(jobs)],
            cwd=ROOT,
            env={**shared, 'RANK': str(rank), 'LOCAL_RANK': str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        outputs = [process.communicate(timeout=TIMEOUT)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    for process, output in zip(started, outputs, strict=True):
        if process.returncode:
            raise RuntimeError(f'A training process ended with an error:\n{output[-4000:]}')
    hooks = [hook for job in jobs for hook in job['cfg_options']['custom_hooks']]
    return [json.loads(Path(hook['out']).read_text(encoding='utf-8')) for hook in hooks]
