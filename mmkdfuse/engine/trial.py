"""Trial of a config on two images: data, one training step, one validation step."""

import copy
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import Evaluator
from mmengine.registry import EVALUATOR, MODELS
from mmengine.runner import Runner
from mmpretrain.models import ClsDataPreprocessor
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from mmkdfuse.analysis.cost import count_cost
from mmkdfuse.analysis.loss_scale import measure_loss_scale
from mmkdfuse.checkpoint_reader import checkpoint_path
from mmkdfuse.engine.config_check import Argument, nearest
from mmkdfuse.engine.culprit import CulpritSearch
from mmkdfuse.engine.error_text import sentence
from mmkdfuse.engine.loss_context import training_set_of
from mmkdfuse.engine.preflight_report import PreflightReport, processes
from mmkdfuse.engine.rehearsal import Rehearsal
from mmkdfuse.engine.sense_check import SenseCheck
from mmkdfuse.engine.value_check import short
from mmkdfuse.models.classifiers.trainable import Trainable
from mmkdfuse.structures import TrainingSet

_SPLITS = ('train', 'val', 'test')
_BATCH = 2


# Keys of a config that a model, and its step on a batch, depend on.
_MODEL = ('model', 'data_preprocessor')
_DATA = (*_MODEL, 'train_dataloader.dataset')


class Trial:
    """One batch of two images through everything a config names.

    Everything that is built before the first iteration is built, and an error in it is blamed on
    the value without which it does not happen.

    Args:
        cfg: The config, which is changed.
        training: True if training follows.
        testing: True for a test: only what it reads is tried.
        arguments: Values of the config and who gets them.
        sense: What was judged without building anything.

    Attributes:
        report: The facts that were found.
        mistakes: One sentence each; empty if the config can run.
        cause: The first error behind them, if any.
    """

    def __init__(
        self,
        cfg: Config,
        training: bool = False,
        testing: bool = False,
        arguments: Sequence[Argument] = (),
        sense: SenseCheck | None = None,
    ) -> None:
        self.cfg = cfg
        self.training, self.testing = training, testing
        self.splits = ('test',) if testing else _SPLITS
        self.report = PreflightReport()
        self.mistakes: list[str] = []
        self.cause: BaseException | None = None
        self.loaders: dict[str, DataLoader] = {}
        self.batches: dict[str, Any] = {}
        self.training_set: TrainingSet | None = None
        self.sense = sense or SenseCheck(cfg)
        self.search = CulpritSearch(arguments)

    def run(self, data: bool) -> None:
        """Try everything; without ``data`` on random images."""
        path = self.cfg.get('load_from')
        try:
            file = str(checkpoint_path(path or '', 'load_from'))
        except ValueError as error:
            self.mistakes.append(f'`load_from`: {sentence(error)}.')
            file = ''
        if file and '://' not in file and not os.path.isfile(file):
            self.mistakes.append(f'`load_from` = {file!r}: no such file.')
        model = self._attempt('model', _MODEL, build_model)
        if not self._are_teachers_there(model):
            return
        if model is not None and not self.report.warnings and not self.testing:
            if self._attempt('model', _MODEL, partial(self._initialised, model)) is None:
                return
        if data:
            self._read_data()
        if model is not None and self._do_images_fit(model):
            self._try(model)
        self.report.advice = self.sense.advice
        self.mistakes += self.sense.mistakes

    def _try(self, model: Any) -> None:
        """Try the model on the batches, then build the rest of the run."""
        trains = self.cfg.get('train_dataloader') is not None and not self.testing
        if trains:
            self._judge_step(
                model, self._attempt('model in training', _DATA, partial(self._step, model))
            )
        names: list[str] | None = []
        key = 'test_evaluator' if self.testing else 'val_evaluator'
        if self.cfg.get(key) is not None:
            names = self._attempt(
                f'{key} on a trial batch', [*_DATA, key], partial(self._scored, model, key)
            )
            self.report.metrics = names or []
            if names is not None and not self.testing:
                self._check_monitors()
        if 'runner_type' not in self.cfg:
            self._rehearse(model, trains, scored=names is not None)
        model.zero_grad(set_to_none=True)
        if not self.mistakes:
            self._attempt('model', _DATA, lambda cfg: self._describe(model))
        classes = self._classes_of_model()[1]
        if classes:
            self.sense.check_topk(classes)

    def _do_images_fit(self, model: Any) -> bool:
        """Whether preprocessor and model suit the images; if not, trying them says nothing new."""
        split = next(iter(self.batches), self.splits[0])
        batch = self._batch(split, model)
        if 'labels' in batch and isinstance(model.data_preprocessor, ClsDataPreprocessor):
            given = self.cfg.get('data_preprocessor')
            self.mistakes.append(
                f'`data_preprocessor` = {short(given)}: data sets that give whole batches need '
                "type='BatchPreprocessor'."
            )
            return False
        self.sense.check_size(tuple(batch['inputs'][0].shape))
        return not self.sense.mistakes

    def _attempt(self, path: str, sections: Sequence[str], action: Callable[[Config], Any]) -> Any:
        """Return what an action gives, or None and a mistake of the config at ``path``."""
        try:
            return action(self.cfg)
        except Exception as error:
            self.cause = self.cause or error
            self.mistakes.append(self.search.explain(self.cfg, path, sections, action, error))
        return None

    def _are_teachers_there(self, model: Any) -> bool:
        teachers = model.teachers if isinstance(model, Trainable) else ()
        missing = [teacher.missing() for teacher in teachers]
        self.report.warnings = [f'{problem}.' for problem in missing if problem]
        if self.report.warnings and self.training:
            self.mistakes += [f'`model.teacher`: {warning}' for warning in self.report.warnings]
            return False
        return True

    def _initialised(self, model: Any, cfg: Config) -> Any:
        model = self._model_of(cfg, model)
        model.init_weights()
        return model

    def _model_of(self, cfg: Config, model: Any) -> Any:
        """The model of a config: this one, or a new one where the search changed the config."""
        return model if cfg is self.cfg else build_model(cfg)

    def _read_data(self) -> None:
        """Build every loader as the Runner does, and read two images."""
        seen: dict[str, str] = {}
        for split in self.splits:
            key = f'{split}_dataloader'
            cfg = self.cfg.get(key)
            if cfg is None:
                continue
            if repr(cfg) in seen:
                twin = seen[repr(cfg)]
                every: tuple[dict, ...] = (self.report.images, self.batches, self.loaders)
                for found in every:
                    if twin in found:
                        found[split] = found[twin]
                continue
            seen[repr(cfg)] = split
            read = self._attempt(key, [key], partial(_read_two, key))
            if read is None:
                continue
            loader, batch = read
            self.loaders[split] = loader
            if hasattr(loader.dataset, '__len__'):
                self.report.images[split] = len(loader.dataset)
            classes = self._classes_of_model()[1] or 0
            if split == 'train':
                self.training_set = training_set_of(loader.dataset, classes)
                self.sense.check_data(self.report.images, _batches(loader), classes)
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

    def _step(self, model: Any, cfg: Config) -> dict[str, Tensor]:
        """Run one training step up to the gradients; return the terms of the loss.

        Raises:
            ValueError: If a term is not finite, or there is none.
        """
        model = self._model_of(cfg, model)
        if isinstance(model, Trainable) and model.needs_dataset:
            known = TrainingSet(_BATCH, None, model.num_classes)
            model.see_dataset(self.training_set or known)
        model.train()
        batch = model.data_preprocessor(self._batch('train', model), training=True)
        if isinstance(model, Trainable) and model.needs_observation:
            model.observe(batch['inputs'])
            model.conclude()
        terms = model(**batch, mode='loss')
        values = {name: _mean(value) for name, value in terms.items()}
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        if broken:
            raise ValueError(
                ' and '.join(
                    f'the term {name} is {values[name]} on the first batch' for name in broken
                )
            )
        if not any('loss' in name for name in terms):
            raise ValueError(f'no term of a loss is left{self._zero_weights()}')
        if self.training and isinstance(model, Trainable) and cfg is self.cfg:
            optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
            weights = [p for p in model.backbone.parameters() if p.requires_grad]
            decays = [optimizer.get('weight_decay', 0.0)] * len(weights)
            self.report.loss_scale = str(measure_loss_scale(terms, weights, decays))
        total, _ = model.parse_losses(terms)
        if total.requires_grad:
            total.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if not all(bool(each.isfinite().all()) for each in gradients):
            raise ValueError('a gradient is NaN or infinite on the first batch')
        return terms

    def _zero_weights(self) -> str:
        """End of a sentence with the weights that are 0."""
        zero = [a for a in self.search.arguments if 'weight' in a.key and a.value in (0, 0.0)]
        return ': ' + ', '.join(f'`{a.path}` = {a.value}' for a in zero) if zero else ''

    def _judge_step(self, model: Any, terms: dict[str, Tensor] | None) -> None:
        """Note the terms of a step, and what is wrong with their names and gradients."""
        if terms is None:
            return
        for name, value in terms.items():
            self.report.losses[name] = _mean(value)
            # Accuracies and other things to log carry no gradient.
            if 'loss' not in name and any(v.requires_grad for v in _several(value)):
                self.mistakes.append(
                    f"`model`: the term {name} would be left out of the sum, name it 'loss_{name}'."
                )
        trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        missed = [name for name, parameter in trainable if parameter.grad is None]
        if missed:
            names = ', '.join(missed[:3]) + (', ..' if len(missed) > 3 else '')
            self.mistakes.append(
                f'`model`: {len(missed)} of {len(trainable)} trainable parameters get no gradient '
                f'({names}); set requires_grad=False for them or leave their part out.'
            )

    def _scored(self, model: Any, key: str, cfg: Config) -> list[str]:
        """Score one batch; return the names of the metrics."""
        model = self._model_of(cfg, model)
        with torch.no_grad():
            model.eval()
            batch = self._batch(key.removesuffix('_evaluator'), model)
            predictions = model.val_step(copy.copy(batch))
            metrics = copy.deepcopy(cfg[key])
            if isinstance(metrics, dict) and 'metrics' in metrics:
                evaluator = EVALUATOR.build({'type': 'Evaluator', **metrics})
            else:
                evaluator = Evaluator(metrics)
            evaluator.process(data_samples=predictions, data_batch=batch)
            names = []
            for metric in evaluator.metrics:
                # Not metric.evaluate(): it waits for the other processes.
                prefix = f'{metric.prefix}/' if metric.prefix else ''
                names += [prefix + name for name in metric.compute_metrics(metric.results)]
            return names

    def _rehearse(self, model: Any, trains: bool, scored: bool) -> None:
        """Build loops, optimiser, schedules, hooks and the rest as the Runner will."""

        def part(path: str, sections: Sequence[str], action: Callable[[Rehearsal], Any]) -> Any:
            def attempt(cfg: Config) -> Any:
                return action(Rehearsal(cfg, model, self.loaders)) or True

            return self._attempt(path, sections, attempt)

        for split in self.splits:
            if split == 'val' and not scored:
                continue  # the evaluator is known to be wrong
            if split in self.loaders and self.cfg.get(f'{split}_cfg') is not None:
                key = f'{split}_cfg'
                part(key, [key, f'{split}_evaluator'], partial(Rehearsal.plan, split=split))
        if trains and self._can_optimise():
            fine = part('optim_wrapper', ['optim_wrapper'], partial(Rehearsal.optimise, step=True))
            schedules = self.cfg.get('param_scheduler')
            if fine and schedules is not None and self._batches_of_training():
                several = isinstance(schedules, list | tuple)
                for index in range(len(schedules)) if several else (None,):
                    path = 'param_scheduler' if index is None else f'param_scheduler[{index}]'
                    sections = [path, 'auto_scale_lr', 'train_cfg']
                    part(path, sections, partial(Rehearsal.schedule, index=index))
        for key in self.cfg.get('default_hooks') or ():
            path = f'default_hooks.{key}'
            part(path, [path], partial(Rehearsal.hook, key=key))
        for index in range(len(self.cfg.get('custom_hooks') or ())):
            path = f'custom_hooks[{index}]'
            part(path, [path], partial(Rehearsal.hook, key='', index=index))
        if isinstance(self.cfg.get('visualizer'), dict):
            part('visualizer', ['visualizer'], Rehearsal.draw)
        if isinstance(self.cfg.get('log_processor'), dict):
            part('log_processor', ['log_processor'], Rehearsal.report)
        if self.training:
            self._check_folders()

    def _batches_of_training(self) -> int:
        return _batches(self.loaders['train']) or 0 if 'train' in self.loaders else 0

    def _can_optimise(self) -> bool:
        """Whether the optimiser can be built in this process before a group of processes exists."""
        optimizer = (self.cfg.get('optim_wrapper') or {}).get('optimizer')
        kind = optimizer.get('type') if isinstance(optimizer, dict) else ''
        return kind != 'ZeroRedundancyOptimizer' or torch.distributed.is_initialized()

    def _check_folders(self) -> None:
        """Check that the folders of the run can be written, without leaving anything in them."""
        folders = {'work_dir': self.cfg.get('work_dir')}
        for key, hook in (self.cfg.get('default_hooks') or {}).items():
            if isinstance(hook, dict) and hook.get('out_dir') is not None:
                folders[f'default_hooks.{key}.out_dir'] = hook['out_dir']
        for path, folder in folders.items():
            if folder is None or '://' in str(folder):
                continue
            place = Path(folder).absolute()
            there = next(each for each in (place, *place.parents) if each.exists())
            try:
                # A folder of one's own, because what may be written cannot be read off the rights.
                with tempfile.TemporaryDirectory(dir=there):
                    pass
            except OSError as error:
                reason = f'{there} cannot be written ({error.strerror})'
                self.mistakes.append(f'`{path}` = {str(folder)!r}: {reason}.')

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
        trains = self.cfg.get('train_dataloader') is not None
        split = self.splits[0] if self.testing or trains else 'val'
        shape = tuple(self._batch(split, model)['inputs'][0].shape)
        report.model, report.input_shape = type(model).__name__, shape
        parameters = list(model.parameters())
        report.parameters = sum(p.numel() for p in parameters)
        report.trainable = sum(p.numel() for p in parameters if p.requires_grad)
        ours = isinstance(model, Trainable)
        report.deployed = count_cost(model.deployed() if ours else model, shape)
        report.plan = model.describe() if ours else []
        loader = self.cfg.get('train_dataloader') or {}
        report.batch_size = loader.get('batch_size', 1) * processes()


def build_model(cfg: Config) -> Any:
    """Build the model of a config with the top-level data preprocessor."""
    node = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        node.setdefault('data_preprocessor', copy.deepcopy(cfg.data_preprocessor))
    return MODELS.build(node)


def _read_two(key: str, cfg: Config) -> tuple[DataLoader, Any]:
    """Build a loader as it will be, and read two images through another one in this process."""
    node = copy.deepcopy(cfg[key])
    node.setdefault('collate_fn', ConfigDict(type='default_collate'))
    loader = Runner.build_dataloader(node, seed=0)
    own = {} if isinstance(loader.dataset, IterableDataset) else dict(sampler=loader.sampler)
    pace: dict = dict(batch_size=_BATCH, **own)
    if node.get('batch_sampler') is not None:
        pace = dict(batch_sampler=loader.batch_sampler)
    return loader, next(iter(DataLoader(loader.dataset, collate_fn=loader.collate_fn, **pace)))


def _batches(loader: DataLoader) -> int | None:
    try:
        return len(loader)
    except TypeError:  # a stream
        return None


def _several(value: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def _mean(value: Tensor | Sequence[Tensor]) -> float:
    """Value of a term, which may be a list of tensors."""
    return sum(float(each.detach().mean()) for each in _several(value))
