"""Trial of a config on two images: data, one training step, one validation step."""

import copy
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.evaluator import Evaluator
from mmengine.registry import EVALUATOR, MODELS
from mmengine.runner import Runner
from torch import Tensor

from mmkdfuse.analysis.cost import Cost, count_cost
from mmkdfuse.analysis.loss_scale import measure_loss_scale
from mmkdfuse.checkpoint_reader import checkpoint_path
from mmkdfuse.engine.config_check import nearest, sentence
from mmkdfuse.engine.loss_context import training_set_of
from mmkdfuse.models.classifiers.trainable import Trainable
from mmkdfuse.structures import TrainingSet

_SPLITS = ('train', 'val', 'test')
_BATCH = 2
# Loader settings that need worker processes; the trial batch is read in this one.
_WORKER_KEYS = ('persistent_workers', 'prefetch_factor', 'timeout', 'worker_init_fn')


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

    def __str__(self) -> str:
        shape = 'x'.join(map(str, self.input_shape))
        lines = [f'{self.model}: {self.parameters:,} parameters, {self.trainable:,} trainable']
        lines += [f'deployed: {self.deployed} at {shape}'] if self.deployed else []
        lines += self.plan
        if self.images:
            lines.append('images: ' + ', '.join(f'{k} {n:,}' for k, n in self.images.items()))
        lines.append(f'batch size: {self.batch_size} in {_processes()} process(es)')
        if self.losses:
            terms = ', '.join(f'{name} {value:.3g}' for name, value in self.losses.items())
            lines.append(f'terms: {terms}')
        lines += [f'their pull at the backbone: {self.loss_scale}'] if self.loss_scale else []
        lines += [f'validation logs: {", ".join(self.metrics)}'] if self.metrics else []
        lines += [f'but training would stop: {warning}' for warning in self.warnings]
        return '\n'.join(['Preflight passed', *(f'  {line}' for line in lines)])


class Trial:
    """One batch of two images through everything a config names.

    Attributes:
        report: The facts that were found.
        mistakes: One sentence each; empty if the config can run.
        cause: The first error behind them, if any.
    """

    def __init__(self, cfg: Config, training: bool = False):
        self.cfg = cfg
        self.training = training
        self.report = PreflightReport()
        self.mistakes: list[str] = []
        self.cause: BaseException | None = None
        self.batches: dict[str, Any] = {}
        self.training_set: TrainingSet | None = None

    def run(self, data: bool) -> None:
        """Try everything; without ``data`` on random images."""
        path = self.cfg.get('load_from')
        with self._blame('load_from'):
            file = str(checkpoint_path(path or '', 'load_from'))
            if file and '://' not in file and not os.path.isfile(file):
                self.mistakes.append(f'`load_from` = {file!r}: no such file.')
        model = None
        with self._blame('model'):
            cfg = self.cfg.model
            if self.cfg.get('data_preprocessor') is not None:
                cfg.setdefault('data_preprocessor', self.cfg.data_preprocessor)
            model = MODELS.build(cfg)
        ours = isinstance(model, Trainable)
        missing = [teacher.missing() for teacher in (model.teachers if ours else ())]
        self.report.warnings = [f'{problem}.' for problem in missing if problem]
        if self.report.warnings and self.training:
            self.mistakes += [f'`model.teacher`: {warning}' for warning in self.report.warnings]
            return
        if model is not None and not self.report.warnings:
            with self._blame('model'):
                model.init_weights()
        if data:
            self._read_data()
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
                for found in (self.report.images, self.batches):
                    if twin in found:
                        found[split] = found[twin]
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
                if split == 'train':
                    classes = self._classes_of_model()[1] or 0
                    self.training_set = training_set_of(loader.dataset, classes)
                if self._classes_agree(split, loader.dataset):
                    self.batches[split] = batch

    def _classes_agree(self, split: str, dataset: Any) -> bool:
        path, expected = self._classes_of_model()
        names = (getattr(dataset, 'metainfo', None) or {}).get('classes')
        names = names or getattr(dataset, 'classes', None)
        if not names or not expected or len(names) == expected:
            return True
        self.mistakes.append(
            f'`{path}` = {expected}: the {split} dataset ({type(dataset).__name__}) has '
            f'{len(names)} classes; set `{path}={len(names)}` or change '
            f'`{split}_dataloader.dataset`.'
        )
        return False

    def _classes_of_model(self) -> tuple[str, int | None]:
        head = self.cfg.model.get('head')
        if self.cfg.model.get('num_classes') is None and isinstance(head, dict):
            return 'model.head.num_classes', head.get('num_classes')
        return 'model.num_classes', self.cfg.model.get('num_classes')

    def _batch(self, split: str, model: Any) -> Any:
        """Return the batch that was read, else random images."""
        if split in self.batches:
            return self.batches[split]
        from mmpretrain.structures import DataSample

        from mmkdfuse.datasets.batch_preprocessor import BatchPreprocessor

        known = [tuple(batch['inputs'][0].shape[1:]) for batch in self.batches.values()]
        size = self.cfg.model.get('image_size') or self.cfg.get('image_size')
        size = size or (known[0] if known else 224)
        height, width = (size, size) if isinstance(size, int) else size
        images = torch.randint(0, 256, (_BATCH, 3, height, width), dtype=torch.uint8)
        labels = torch.arange(_BATCH) % (self._classes_of_model()[1] or 1)
        if isinstance(model.data_preprocessor, BatchPreprocessor):
            return dict(inputs=images, labels=labels, indices=torch.arange(_BATCH))
        samples = [DataSample().set_gt_label(label) for label in labels]
        return dict(inputs=images.float(), data_samples=samples)

    def _train_step(self, model: Any) -> None:
        if isinstance(model, Trainable) and model.needs_dataset:
            known = TrainingSet(_BATCH, None, model.num_classes)
            model.see_dataset(self.training_set or known)
        model.train()
        batch = model.data_preprocessor(self._batch('train', model), training=True)
        if isinstance(model, Trainable) and model.needs_observation:
            model.observe(batch['inputs'])
            model.conclude()
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
        if self.training and isinstance(model, Trainable):
            optimizer = (self.cfg.get('optim_wrapper') or {}).get('optimizer') or {}
            weights = [p for p in model.backbone.parameters() if p.requires_grad]
            decays = [optimizer.get('weight_decay', 0.0)] * len(weights)
            self.report.loss_scale = str(measure_loss_scale(terms, weights, decays))
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
    def _validation_step(self, model: Any) -> None:
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

    def _describe(self, model: Any) -> None:
        report = self.report
        split = 'val' if self.cfg.get('train_dataloader') is None else 'train'
        shape = tuple(self._batch(split, model)['inputs'][0].shape)
        report.model, report.input_shape = type(model).__name__, shape
        parameters = list(model.parameters())
        report.parameters = sum(p.numel() for p in parameters)
        report.trainable = sum(p.numel() for p in parameters if p.requires_grad)
        ours = isinstance(model, Trainable)
        report.deployed = count_cost(model.deployed() if ours else model, shape)
        report.plan = model.describe() if ours else []
        loader = self.cfg.get('train_dataloader') or {}
        report.batch_size = loader.get('batch_size', 1) * _processes()


def _processes() -> int:
    # torchrun tells before the process group exists
    return max(get_world_size(), int(os.environ.get('WORLD_SIZE', 1)))
