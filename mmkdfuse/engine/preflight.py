"""Everything that can go wrong in the first minutes of a run, found in its first second."""

import copy
import gc
import logging
import math
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.evaluator import Evaluator
from mmengine.registry import EVALUATOR, MODELS, DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn

from mmkdfuse.analysis.cost import Cost, count_cost
from mmkdfuse.engine.config_check import check_config, nearest, sentence

_SPLITS = ('train', 'val', 'test')
_BATCH = 2
# Loader settings that need worker processes; the trial batch is read in this one.
_WORKER_KEYS = ('persistent_workers', 'prefetch_factor', 'timeout', 'worker_init_fn')


class ConfigError(ValueError):
    """All mistakes of a config, one sentence and one line each.

    Attributes:
        mistakes: The sentences.
    """

    def __init__(self, mistakes: Sequence[str]):
        self.mistakes = list(mistakes)
        super().__init__('\n'.join(self.mistakes))


@dataclass
class PreflightReport:
    """What a run will train, measured on a batch of two images.

    Attributes:
        model: Class of the model.
        parameters: Number of parameters in training.
        trainable: Number of those that the optimiser changes.
        deployed: Cost of what is left after training.
        input_shape: (C, H, W) of the images.
        plan: Lines on stage shapes and branches.
        images: Number of images of every split; empty where the data were not looked at.
        batch_size: Images per step, over all processes.
        losses: Value of every term before training.
        metrics: Names that validation will log.
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
    metrics: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        shape = 'x'.join(map(str, self.input_shape))
        lines = [f'{self.model}: {self.parameters:,} parameters, {self.trainable:,} trainable']
        lines += [f'deployed: {self.deployed} at {shape}'] if self.deployed else []
        lines += self.plan
        if self.images:
            lines.append('images: ' + ', '.join(f'{k} {n:,}' for k, n in self.images.items()))
        lines.append(f'batch size: {self.batch_size} in {get_world_size()} process(es)')
        lines += [f'{name}: {value:.4f}' for name, value in self.losses.items()]
        lines += [f'validation logs: {", ".join(self.metrics)}'] if self.metrics else []
        return '\n'.join(['Preflight passed', *(f'  {line}' for line in lines)])


def preflight(cfg: Config, data: bool = True) -> PreflightReport:
    """Check a config before training: first without building anything, then on two images.

    The trial builds data sets and model on the CPU, takes one batch forward and backward and one
    through validation. Global random state and the config stay as they are; nothing is written.

    Args:
        cfg: The config.
        data: False to leave the data sets alone and try a random batch instead.

    Raises:
        ConfigError: If anything is wrong; it holds all mistakes.
    """
    mistakes = check_config(cfg)
    if mistakes:
        raise ConfigError(mistakes)
    scope = cfg.get('default_scope') or 'mmengine'
    with _random_state_kept(), _quiet(), DefaultScope.overwrite_default_scope(scope):
        trial = _Trial(copy.deepcopy(cfg))
        trial.run(data)
    mistakes, report, cause = trial.mistakes, trial.report, trial.cause
    del trial
    gc.collect()
    if mistakes:
        raise ConfigError(mistakes) from cause
    return report


def check_file(path: str, cfg_options: dict | None = None, data: bool = True) -> int:
    """Run :func:`preflight` on a config file, print the outcome, return the exit status 0 or 1."""
    try:
        print(preflight(read_config(path, cfg_options), data))
    except ConfigError as error:
        noun = 'mistake' if len(error.mistakes) == 1 else 'mistakes'
        print(f'{len(error.mistakes)} {noun} in {path}:\n{error}')
        return 1
    return 0


def read_config(path: str, cfg_options: dict | None = None) -> Config:
    """Read a config file and apply changes to it.

    Raises:
        ConfigError: If the file or one of its bases cannot be read or a change does not fit.
    """
    try:
        # Modules are imported by the check, which reports every one that fails.
        cfg = Config.fromfile(path, import_custom_modules=False)
        cfg.merge_from_dict(cfg_options or {})
    except Exception as error:
        reason = f'{type(error).__name__}: {sentence(error)}'
        raise ConfigError([f'`{path}` cannot be read as a config: {reason}.']) from error
    return cfg


class _Trial:
    """One batch of two images through everything the config names."""

    def __init__(self, cfg: Config):
        self.cfg = cfg
        self.report = PreflightReport()
        self.mistakes: list[str] = []
        self.cause: BaseException | None = None
        self.batches: dict[str, Any] = {}

    def run(self, data: bool) -> None:
        path = self.cfg.get('load_from')
        if path and '://' not in path and not os.path.isfile(path):
            self.mistakes.append(f'`load_from` = {path!r}: no such file.')
        if data:
            self._read_data()
        model = None
        with self._blame('model'):
            cfg = self.cfg.model
            if self.cfg.get('data_preprocessor') is not None:
                cfg.setdefault('data_preprocessor', self.cfg.data_preprocessor)
            model = MODELS.build(cfg)
            model.init_weights()
        if model is None:
            return
        if self.cfg.get('train_dataloader') is not None:
            with self._blame('model in training'):
                self._train_step(model)
        if self.cfg.get('val_evaluator') is not None:
            with self._blame('val_evaluator on a trial batch'):
                self._validation_step(model)
        if not self.mistakes:
            with self._blame('model'):
                self._describe(model)

    @contextmanager
    def _blame(self, path: str) -> Iterator[None]:
        """Turn an error into a mistake of the config at ``path``."""
        try:
            yield
        except Exception as error:
            self.cause = self.cause or error
            text = sentence(error)
            known = isinstance(error, (ValueError, RuntimeError, FileNotFoundError))
            self.mistakes.append(
                f'`{path}`: {text if known else f"{type(error).__name__}: {text}"}.'
            )

    def _read_data(self) -> None:
        """Build every loader as the Runner does, but for two images, and read its first batch."""
        seen: dict[str, str] = {}
        for split in _SPLITS:
            key = f'{split}_dataloader'
            cfg = self.cfg.get(key)
            if cfg is None:
                continue
            if repr(cfg) in seen:
                twin = seen[repr(cfg)]
                if twin in self.report.images:
                    self.report.images[split] = self.report.images[twin]
                continue
            seen[repr(cfg)] = split
            with self._blame(key):
                trial = {k: v for k, v in cfg.items() if k not in _WORKER_KEYS}
                trial.update(num_workers=0)
                if 'batch_sampler' not in trial:
                    trial.update(batch_size=_BATCH)
                loader = Runner.build_dataloader(trial, seed=0)
                batch = next(iter(loader))
                self.report.images[split] = len(loader.dataset)
                if self._classes_agree(split, loader.dataset):
                    self.batches[split] = batch

    def _classes_agree(self, split: str, dataset: Any) -> bool:
        path, expected = self._classes_of_model()
        names = (getattr(dataset, 'metainfo', None) or {}).get('classes')
        names = names or getattr(dataset, 'classes', None)
        if not names or not expected or len(names) == expected:
            return True
        self.mistakes.append(
            f'`{path}` = {expected}: the {split} data set ({type(dataset).__name__}) has '
            f'{len(names)} classes; set `{path}={len(names)}` or change '
            f'`{split}_dataloader.dataset`.'
        )
        return False

    def _classes_of_model(self) -> tuple[str, int | None]:
        head = self.cfg.model.get('head')
        if self.cfg.model.get('num_classes') is None and isinstance(head, dict):
            return 'model.head.num_classes', head.get('num_classes')
        return 'model.num_classes', self.cfg.model.get('num_classes')

    def _batch(self, split: str, model: nn.Module) -> Any:
        """Return the batch that was read, else random images."""
        if split in self.batches:
            return self.batches[split]
        from mmpretrain.structures import DataSample

        from mmkdfuse.datasets.batch_augment import BatchPreprocessor

        size = self.cfg.model.get('image_size') or self.cfg.get('image_size') or 224
        height, width = (size, size) if isinstance(size, int) else size
        images = torch.randint(0, 256, (_BATCH, 3, height, width), dtype=torch.uint8)
        labels = torch.arange(_BATCH) % (self._classes_of_model()[1] or 1)
        if isinstance(model.data_preprocessor, BatchPreprocessor):
            return dict(inputs=images, labels=labels, indices=torch.arange(_BATCH))
        samples = [DataSample().set_gt_label(label) for label in labels]
        return dict(inputs=images.float(), data_samples=samples)

    def _train_step(self, model: nn.Module) -> None:
        model.train()
        batch = model.data_preprocessor(self._batch('train', model), training=True)
        terms = model(**batch, mode='loss')
        for name, value in terms.items():
            values = [value] if isinstance(value, Tensor) else list(value)
            self.report.losses[name] = sum(float(v.detach().mean()) for v in values)
            if not math.isfinite(self.report.losses[name]):
                self.mistakes.append(
                    f'`model`: the term {name} is {self.report.losses[name]} on the first batch.'
                )
            # Accuracies and other things to log carry no gradient.
            if 'loss' not in name and any(v.requires_grad for v in values):
                self.mistakes.append(
                    f"`model`: the term {name} would be left out of the sum, name it 'loss_{name}'."
                )
        total, _ = model.parse_losses(terms)
        if total.requires_grad:
            total.backward()
        trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        missed = [name for name, parameter in trainable if parameter.grad is None]
        if missed:
            names = ', '.join(missed[:3]) + (', ..' if len(missed) > 3 else '')
            self.mistakes.append(
                f'`model`: {len(missed)} of {len(trainable)} trainable parameters get no gradient '
                f'({names}); set requires_grad=False for them or leave their part out.'
            )
        model.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _validation_step(self, model: nn.Module) -> None:
        model.eval()
        batch = self._batch('val', model)
        predictions = model.val_step(copy.copy(batch))
        cfg = self.cfg.val_evaluator
        if isinstance(cfg, dict) and 'metrics' in cfg:
            evaluator = EVALUATOR.build({'type': 'Evaluator', **cfg})
        else:
            evaluator = Evaluator(cfg)
        evaluator.process(data_samples=predictions, data_batch=batch)
        for metric in evaluator.metrics:
            # Not metric.evaluate(): it waits for the other processes.
            prefix = f'{metric.prefix}/' if metric.prefix else ''
            self.report.metrics += [prefix + key for key in metric.compute_metrics(metric.results)]
        self._check_monitors()

    def _check_monitors(self) -> None:
        hooks = {f'default_hooks.{k}': h for k, h in (self.cfg.get('default_hooks') or {}).items()}
        for index, hook in enumerate(self.cfg.get('custom_hooks') or []):
            hooks[f'custom_hooks[{index}]'] = hook
        for path, hook in hooks.items():
            for key in ('save_best', 'monitor'):
                wanted = hook.get(key) if isinstance(hook, dict) else None
                for name in [wanted] if isinstance(wanted, str) else wanted or []:
                    if name != 'auto' and name not in self.report.metrics:
                        hint = nearest(name, self.report.metrics)
                        self.mistakes.append(
                            f'`{path}.{key}` = {name!r}: not a metric of `val_evaluator`{hint}.'
                        )

    def _describe(self, model: nn.Module) -> None:
        report = self.report
        split = 'val' if self.cfg.get('train_dataloader') is None else 'train'
        shape = tuple(self._batch(split, model)['inputs'][0].shape)
        report.model, report.input_shape = type(model).__name__, shape
        parameters = list(model.parameters())
        report.parameters = sum(p.numel() for p in parameters)
        report.trainable = sum(p.numel() for p in parameters if p.requires_grad)
        deployed = model.deployed() if hasattr(model, 'deployed') else model
        report.deployed = count_cost(deployed, shape)
        report.plan = model.describe() if hasattr(model, 'describe') else []
        loader = self.cfg.get('train_dataloader') or {}
        report.batch_size = loader.get('batch_size', 1) * get_world_size()


@contextmanager
def _random_state_kept() -> Iterator[None]:
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed: it would seed the GPUs as well.
            torch.default_generator.manual_seed(0)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextmanager
def _quiet() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(level)
