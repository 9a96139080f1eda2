"""Every option of every registered class changes something or is refused by name.

The classes are found by the registries and their options by their signatures, inherited ones
included. A new option fails here until ``tests/options/values.py`` has a value for it.
"""

from __future__ import annotations

import copy
import io
import logging
import re
import shutil
import sys
import uuid
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from engine.hooks.toy_training import build_runner
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import DefaultScope
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.models.heads import ClsHead
from options import fingerprints as measure
from options.files import write_files
from options.values import BASES, SHAPES, TEACHER, VALUES, Exempt, Try
from torch import nn

from mmkdfuse import datasets, engine, evaluation, registry  # noqa: F401  (they register)
from mmkdfuse.engine.signature import keywords_of
from mmkdfuse.models import KFM, MFAKD, Loss, Trainable
from mmkdfuse.models.inference import FoldedClassifier
from mmkdfuse.models.necks import MultiBranchNeck
from mmkdfuse.registry import MODELS

KINDS = ('MODELS', 'METRICS', 'DATASETS', 'HOOKS', 'LOOPS', 'OPTIM_WRAPPERS')
CLASSES = {
    name: cls
    for kind in KINDS
    for name, cls in getattr(registry, kind).module_dict.items()
    if cls.__module__.startswith('mmkdfuse.')
}


def ancestors(cls: type) -> list[str]:
    return [each.__name__ for each in cls.__mro__]


def keys_of(cls: type, option: str) -> list:
    """Keys under which the table may have a value, the first one counts."""
    return [*((name, option) for name in ancestors(cls)), option]


def base_of(cls: type) -> dict:
    """Options that a class cannot be built without."""
    return next((BASES[name] for name in ancestors(cls) if name in BASES), {})


def options_of(cls: type) -> list[str]:
    """Options in a class's signature; where any keyword passes, also those of the table."""
    keywords = keywords_of(cls)
    more = [key[1] for key in VALUES if key[0] == cls.__name__] if keywords.accepts_any else []
    return list(dict.fromkeys([*keywords.defaults, *more]))


PAIRS = [(cls, option) for cls in CLASSES.values() for option in options_of(cls)]


class Views(nn.Module):
    """An image and its mirror image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([images, images.flip(3)])


class DoubledConv(nn.Conv2d):
    """A convolution that gives twice as much."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


@pytest.fixture(scope='module', autouse=True)
def _registered():
    """Parts that values name."""
    parts = {'OptionTestViews': Views, 'OptionTestConv': DoubledConv}
    with DefaultScope.overwrite_default_scope('mmkdfuse'):
        for name, part in parts.items():
            MODELS.register_module(name=name, module=part)
        yield
        for name in parts:
            del MODELS.module_dict[name]


def filled(value: Any, folder: Path) -> Any:
    """A value with the folder of the files in its texts; a copy of all that can change."""
    if isinstance(value, str):
        return value.replace('{folder}', str(folder))
    if isinstance(value, dict):
        return {key: filled(each, folder) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(filled(each, folder) for each in value)
    return value if callable(value) else copy.deepcopy(value)


class Workshop:
    """Measures classes with options."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, measure.Fingerprint] = {}

    def base(self, cls: type, options: dict) -> measure.Fingerprint:
        """Fingerprint that is measured once."""
        key = f'{cls.__name__} {options}'
        if key not in self.known:
            self.known[key] = self.measured(cls, options)
        return self.known[key]

    def measured(self, cls: type, options: dict) -> measure.Fingerprint:
        """Fingerprint of a class with options beside those that it needs."""
        options = filled({**base_of(cls), **options}, self.folder)
        measure.seed()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return self._measured(cls, options)

    def _measured(self, cls: Any, options: dict) -> measure.Fingerprint:
        own = dict(type=cls.__name__, **options)
        if issubclass(cls, Trainable):
            return measure.of_model(MODELS.build(own))
        if issubclass(cls, Loss):
            return measure.of_model(self._trained_by(own))
        if issubclass(cls, (MultiBranchNeck, KFM)):
            neck = own if issubclass(cls, MultiBranchNeck) else dict(kfm=own)
            base = filled(base_of(models_of('BranchedClassifier')), self.folder)
            return measure.of_model(MODELS.build(dict(base, type='BranchedClassifier', neck=neck)))
        if issubclass(cls, BaseDataPreprocessor):
            return measure.of_preprocessor(MODELS.build(own))
        if issubclass(cls, ClsHead):
            count = options.get('num_features', len(options.get('heads', ())))
            return measure.of_head(MODELS.build(own), features(count, options))
        if issubclass(cls, nn.Module):
            return self._of_part(cls, options)
        if cls in registry.DATASETS.module_dict.values():
            return self._of_dataset(cls, options)
        if cls in registry.METRICS.module_dict.values():
            return measure.of_metric(cls(**options))
        if cls in registry.OPTIM_WRAPPERS.module_dict.values():
            return measure.of_optim_wrapper(cls, options)
        if cls in registry.LOOPS.module_dict.values():
            return self._of_loop(own)
        return HOOKS[cls.__name__](cls, options, self.folder)

    def _trained_by(self, loss: dict) -> Any:
        """A model that a loss fits."""
        reads = MODELS.build(dict(loss)).reads
        aligned = 'aligned1' in str(reads.student.maps)
        name = 'MFAKD' if aligned else 'BranchedClassifier'
        given = dict(base_of(models_of(name)), type=name)
        if reads.teacher.logits:
            network = {key: each for key, each in TEACHER.items() if key != 'checkpoint'}
            given['teacher'] = dict(
                type='BranchedClassifier',
                backbone=network,
                num_classes=measure.K,
                image_size=measure.SIDE,
                checkpoint='{folder}/branched.pth',
            )
        elif reads.teacher.stages:
            given['teacher'] = TEACHER
        return MODELS.build(dict(filled(given, self.folder), losses=[loss]))

    def _of_part(self, cls: Any, options: dict) -> measure.Fingerprint:
        """Of a module that takes images, maps or features."""
        part = MODELS.build(dict(type=cls.__name__, **options))
        maps = tuple(measure.random_numbers(f'map {s}', (2, *s)) for s in SHAPES)
        side = (8, 8)
        if issubclass(cls, FoldedClassifier):
            return measure.of_module(part, call=lambda: whole_pass(part))
        if issubclass(cls, BaseBackbone) or cls.__name__ == 'TruncatedBackbone':
            channels = options.get('in_channels', 3)
            return measure.of_module(part, measure.random_numbers('x', (2, channels, 32, 32)))
        if cls.__name__ == 'BranchHead':
            return measure.of_module(part, features(options['num_features'], options))
        if cls.__name__ == 'BranchPath':
            return measure.of_module(part, maps)
        channels = options.get('in_channels', (options.get('student_shape') or (6,))[0])
        student_map = measure.random_numbers('map', (2, channels, 4, 4))
        takes_size = cls.__name__.endswith('MBCAConnector')
        return (
            measure.of_module(part, student_map, side)
            if takes_size
            else measure.of_module(part, (student_map,))
        )

    def _of_dataset(self, cls: Any, options: dict) -> measure.Fingerprint:
        """Of what a data set holds and writes; nothing is downloaded."""
        caches = [self.folder / 'cache', *self.folder.glob('*/.mmkdfuse_cache')]
        for cache in caches:
            shutil.rmtree(cache, ignore_errors=True)
        refused = mock.Mock(side_effect=RuntimeError('the network is needed'))
        with mock.patch('mmkdfuse.datasets.download.download', refused):
            try:
                found = measure.of_dataset(cls(**options))
            except RuntimeError as error:
                found = dict(error=str(error))
        caches = [self.folder / 'cache', *self.folder.glob('*/.mmkdfuse_cache')]
        written = [
            str(path.relative_to(self.folder)) for each in caches for path in each.rglob('*.npy')
        ]
        return found | measure.flat(dict(written=sorted(written)))

    def _of_loop(self, own: dict) -> measure.Fingerprint:
        """Of the order of iterations and validations in a run."""
        recorder = measure.Recorder()
        runner = build_runner(self.folder / uuid.uuid4().hex, hooks=[recorder])
        runner._train_loop = own
        runner.train()
        return measure.flat(recorder.events)


def models_of(name: str) -> type:
    return CLASSES[name]


def features(count: int, options: dict) -> list[torch.Tensor]:
    """One feature for every classifier of a head."""
    channels = options.get('in_channels', 6)
    return [
        measure.random_numbers(f'feature {number}', (measure.BATCH, channels))
        for number in range(count)
    ]


def whole_pass(model: Any) -> list[torch.Tensor]:
    """Logits and loss of a batch that goes through the model's preprocessor."""
    data = model.data_preprocessor(measure.batch(), model.training)
    data = {key: data[key] for key in ('inputs', 'data_samples')}
    logits = model(data['inputs'])
    return [logits, model(**data, mode='loss')['loss']] if model.training else [logits]


def of_checkpoint_hook(cls: type, options: dict, folder: Path) -> measure.Fingerprint:
    """Files of a run of two epochs."""
    work_dir = folder / uuid.uuid4().hex
    runner = build_runner(work_dir, 2, checkpoint={'interval': 1, **options}, scripted=(0.6, 0.3))
    hook = next(each for each in runner.hooks if isinstance(each, cls))
    runner.train()
    found = measure.of_files(work_dir)
    if options.get('out_dir'):
        found['elsewhere'] = len(list(Path(options['out_dir']).rglob('*.pth')))
    found['backend'] = type(hook.file_backend).__name__
    return measure.flat(found)


def of_compile_hook(cls: Any, options: dict, folder: Path) -> measure.Fingerprint:
    """How the model is compiled."""
    model = mock.Mock(spec=nn.Module)
    cls(**options).before_train(SimpleNamespace(model=model, logger=mock.Mock()))
    return measure.flat(model.compile.call_args.kwargs)


def of_interrupt_hook(cls: Any, options: dict, folder: Path) -> measure.Fingerprint:
    """Iterations after which the processes of a distributed run ask each other."""
    hook = cls(**options)
    hook._group = object()
    asked: list[bool] = []

    def ask(*_: Any, **__: Any) -> None:
        hook._updates = 0
        asked[-1] = True

    with mock.patch.object(hook, '_stop_if_asked', ask):
        for number in range(12):
            asked.append(False)
            runner = SimpleNamespace(iter=number, optim_wrapper=None, train_dataloader=range(99))
            hook.after_train_iter(runner, number)
    return measure.flat(asked)


def of_invalid_loss_hook(cls: Any, options: dict, folder: Path) -> measure.Fingerprint:
    """Iterations that a run goes on after a loss that is infinite."""
    hooks = dict(invalid_loss=dict(type='InvalidLossHook', **options), logger=None)
    checkpoint = dict(interval=-1, save_last=False)
    runner = build_runner(
        folder / uuid.uuid4().hex, 2, checkpoint, validate=False, default_hooks=hooks
    )
    runner.model.bad_term = {2: float('inf')}
    with pytest.raises(RuntimeError, match='loss term'):
        runner.train()
    return measure.flat(dict(steps=runner.model.steps))


def of_progress_hook(cls: Any, options: dict, folder: Path) -> measure.Fingerprint:
    """Iterations at which the line is drawn, one second each."""
    terminal = mock.Mock(wraps=io.StringIO())
    terminal.isatty.return_value = True
    clock = iter(range(1000))
    runner = mock.Mock(iter=0, epoch=0, max_iters=99, max_epochs=1, train_dataloader=range(99))
    runner.logger.handlers = []
    hook = cls(**options)
    with (
        mock.patch.object(sys, 'stderr', terminal),
        mock.patch('time.monotonic', lambda: next(clock)),
    ):
        hook.before_train(runner)
        hook.before_train_epoch(runner)
        for number in range(12):
            runner.iter = number
            hook.after_train_iter(runner, number, dict(inputs=[0]))
    return measure.flat([call.args[0] for call in terminal.write.call_args_list])


def of_loss_scale_hook(cls: Any, options: dict, folder: Path) -> measure.Fingerprint:
    """Epochs of which a batch is kept for a report."""
    hook = cls(**options)
    reported = []
    for epoch in range(40):
        hook.before_train_iter(SimpleNamespace(epoch=epoch, max_epochs=40), 0, [epoch])
        reported.append(hook._batch)
    return measure.flat(reported)


def of_loss_context_hook(cls: Any, options: dict, folder: Path) -> measure.Fingerprint:
    """Batches that a loss with a unit sees before training."""
    networks = dict(student=dict(TINY_TEACHER), teacher=dict(TINY_TEACHER))
    model = MFAKD(**networks, num_classes=10, image_size=32, normalize='variance')
    seen = []
    model.observe = lambda images: seen.append(len(images))
    batches = [dict(inputs=torch.zeros(4, 3, 32, 32, dtype=torch.uint8)) for _ in range(5)]
    runner = SimpleNamespace(
        model=model, train_dataloader=batches, logger=logging.getLogger('mmkdfuse.test')
    )
    cls(**options).before_train(runner)
    return measure.flat(seen)


TINY_TEACHER = dict(arch='resnet8x4', base_channels=4, stem_channels=4)
HOOKS = {
    'CheckpointHook': of_checkpoint_hook,
    'CompileHook': of_compile_hook,
    'InterruptHook': of_interrupt_hook,
    'InvalidLossHook': of_invalid_loss_hook,
    'LossContextHook': of_loss_context_hook,
    'LossScaleHook': of_loss_scale_hook,
    'ProgressHook': of_progress_hook,
}


@pytest.fixture(scope='module')
def workshop(tmp_path_factory, _registered):
    folder = tmp_path_factory.mktemp('options')
    with pytest.MonkeyPatch.context() as patch:
        write_files(folder, patch)
        yield Workshop(folder)


def check(workshop: Workshop, cls: type, option: str) -> None:
    """Raise an AssertionError unless an option acts or is refused."""
    key = next((key for key in keys_of(cls, option) if key in VALUES), None)
    where = f'{cls.__name__}.{option}'
    assert key is not None, f'{where}: tests/options/values.py has no value to try'
    entry = VALUES[key]
    if isinstance(entry, Exempt):
        assert entry.reason
        return
    case = entry if isinstance(entry, Try) else Try(entry, {})
    base = workshop.base(cls, case.beside)
    try:
        found = workshop.measured(cls, {**case.beside, option: case.value})
    except ValueError as error:
        assert is_refusal(str(error), option), f'{where}={case.value!r} is refused by: {error}'
        return
    changed = measure.changes(found, base)
    assert changed, f'{where}={case.value!r} changes nothing'


def is_refusal(message: str, option: str) -> bool:
    """Whether an error is one sentence that names an option."""
    sentences = re.split(r'[.!?]\s+(?=[A-Z])', message.strip())
    return len(sentences) == 1 and re.search(rf'\b{option}\b', message) is not None


@pytest.mark.parametrize(
    ('cls', 'option'), PAIRS, ids=[f'{cls.__name__}-{option}' for cls, option in PAIRS]
)
def test_it_acts_or_is_refused(workshop, cls, option):
    check(workshop, cls, option)


def test_every_value_belongs_to_an_option():
    used = {
        next((key for key in keys_of(cls, option) if key in VALUES), None) for cls, option in PAIRS
    }
    assert set(VALUES) - used == set()


def test_classes_that_take_any_keyword_are_tried_with_one():
    taking = [cls.__name__ for cls in CLASSES.values() if keywords_of(cls).accepts_any]
    assert [name for name in taking if not any(key[0] == name for key in VALUES)] == []


class Forgetful(models_of('Classifier')):  # type: ignore[misc]
    """A model with an option that it forgets."""

    def __init__(self, *args: Any, smoothing: float = 0.1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


def test_an_option_without_effect_is_found(workshop, monkeypatch):
    MODELS.register_module(name='Forgetful', module=Forgetful, force=True)
    try:
        assert 'smoothing' in options_of(Forgetful)
        with pytest.raises(AssertionError, match='Forgetful.smoothing: .* has no value'):
            check(workshop, Forgetful, 'smoothing')
        monkeypatch.setitem(VALUES, 'smoothing', 0.5)
        with pytest.raises(AssertionError, match='Forgetful.smoothing=0.5 changes nothing'):
            check(workshop, Forgetful, 'smoothing')
    finally:
        del MODELS.module_dict['Forgetful']
