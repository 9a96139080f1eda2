"""Everything that an option of one of our classes can change, measured: a fingerprint of the class.

Weights depend on their names and shapes alone and random numbers on one seed, so that an option
that nothing reads leaves the fingerprint as it is, bit by bit.
"""

from __future__ import annotations

import logging
import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModule
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmkdfuse.datasets import identity_collate
from mmkdfuse.engine.hooks.verify_teacher_hook import VerifyTeacherHook
from mmkdfuse.structures import Taps

K, SIDE, BATCH = 5, 16, 4
RELATIVE, ABSOLUTE = 1e-6, 1e-9
LABELS = torch.tensor([0, 3, 4, 3])
EPOCH, MAX_EPOCHS = 1, 10

Fingerprint = dict[str, Any]


def random_numbers(name: str, shape: Any) -> Tensor:
    """Normal numbers that a name and a shape determine."""
    generator = torch.Generator().manual_seed(zlib.crc32(f'{name} {tuple(shape)}'.encode()))
    return torch.randn(tuple(shape), generator=generator)


# Small values: networks take them as they are, and saturated predictions would tell nothing.
IMAGES = (random_numbers('images', (BATCH, 3, SIDE, SIDE)) * 1.5 + 2).clamp(0, 9).byte()


def seed() -> None:
    """Seed all that draws."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@torch.no_grad()
def fill(module: nn.Module) -> None:
    """Overwrite all weights but those of frozen modules, which are copies of a teacher's."""
    for path, part in module.named_modules():
        own = list(part.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            continue
        tensors = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
        for name, tensor in tensors:
            if tensor.is_floating_point():
                values = random_numbers(f'{path}.{name}', tensor.shape)
                if name.endswith('running_var'):
                    values = 0.75 + 0.5 * values.sigmoid()
                elif tensor.ndim < 2:
                    values = 0.1 * values + (name == 'weight')
                else:
                    values *= (2 / tensor[0].numel()) ** 0.5
                tensor.copy_(values)


def flat(value: Any, name: str = '') -> Fingerprint:
    """Tensors, numbers and texts in nested containers by their path."""
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (list, tuple, set, frozenset)):
        items = enumerate(sorted(value) if isinstance(value, (set, frozenset)) else value)
    else:
        return {name: value}
    found: Fingerprint = {f'{name} length': len(value)}
    for key, each in items:
        found |= flat(each, f'{name}/{key}')
    return found


def same(a: Any, b: Any) -> bool:
    """Whether two entries of fingerprints are equal, numbers up to rounding."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            return False
        return torch.allclose(a.double(), b.double(), RELATIVE, ABSOLUTE, equal_nan=True)
    if isinstance(a, float) and isinstance(b, float):
        return bool(np.isclose(a, b, RELATIVE, ABSOLUTE, equal_nan=True))
    return type(a) is type(b) and a == b


def changes(found: Fingerprint, base: Fingerprint) -> list[str]:
    """Names of the entries that differ between two fingerprints."""
    differing = found.keys() ^ base.keys()
    differing |= {name for name in found.keys() & base.keys() if not same(found[name], base[name])}
    return sorted(differing)


@contextmanager
def checkpointed_calls() -> Iterator[list]:
    """Note the calls of activation checkpointing, which leaves all numbers as they are."""
    calls: list = []
    original = torch.utils.checkpoint.checkpoint

    def note(*args: Any, **kwargs: Any) -> Any:
        calls.append('checkpoint')
        return original(*args, **kwargs)

    with mock.patch('torch.utils.checkpoint.checkpoint', note):
        yield calls


def of_weights(module: nn.Module) -> Fingerprint:
    """Names, shapes, what is trained, and the values after initialisation."""
    seed()
    module.train()
    if hasattr(module, 'init_weights'):
        with mock.patch.object(BaseModule, '_dump_init_info'):  # which logs every weight
            module.init_weights()
    return {
        'shapes': {name: tuple(value.shape) for name, value in module.state_dict().items()},
        'trained': [name for name, value in module.named_parameters() if value.requires_grad],
        'initial': {n: (v.double().sum(), v.double().norm()) for n, v in floats_of(module)},
    }


def floats_of(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Floating-point weights and buffers by name."""
    return [(n, v.clone()) for n, v in module.state_dict().items() if v.is_floating_point()]


def tensors_in(value: Any) -> list[Tensor]:
    """Tensors of an output."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for each in value for tensor in tensors_in(each)]


def of_module(module: Any, *inputs: Any, call: Callable | None = None) -> Fingerprint:
    """Weights, outputs in both modes, gradients and batch-norm statistics of a module."""
    found = of_weights(module)
    fill(module)
    call = call or module
    with torch.no_grad():
        found['evaluated'] = tensors_in(eval_mode(module, call, inputs))
    module.train()
    seed()
    with checkpointed_calls() as calls:
        outputs = tensors_in(call(*inputs))
        total = sum((each * each.detach().cos()).sum() for each in outputs if each.requires_grad)
        if isinstance(total, Tensor):
            total.backward()
    found['outputs'] = [each.detach() for each in outputs]
    found['gradients'] = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    found['statistics'] = {name: value for name, value in floats_of(module) if 'running' in name}
    found['calls'] = list(calls)
    return flat(found)


def eval_mode(module: nn.Module, call: Callable, inputs: Any) -> Any:
    """Output of a module in eval mode."""
    module.eval()
    return call(*inputs)


def batch() -> dict:
    """A batch with everything that one of the preprocessors takes."""
    samples = [DataSample().set_gt_label(label) for label in LABELS.view(-1, 1)]
    return dict(
        inputs=IMAGES.clone(),
        labels=LABELS.clone(),
        indices=torch.arange(BATCH),
        data_samples=samples,
    )


def of_model(model: Any) -> Fingerprint:
    """What training, validation and deployment see of a model."""
    found = of_weights(model)
    fill(model)
    for teacher in model.teachers:
        fill(teacher.network.requires_grad_(True))
        teacher.network.requires_grad_(False)
    model.set_progress(EPOCH, MAX_EPOCHS)
    if model.needs_observation:
        model.observe(model.data_preprocessor(batch(), False)['inputs'])
        model.conclude()
    found['stage shapes'] = list(model.stage_shapes)
    found['heads'] = [*model.head_names, *model.heads()]
    model.eval()
    with torch.no_grad():
        images = model.data_preprocessor(batch(), False)['inputs']
        found['logits'] = tensors_in(model(images))
        samples = model(images, LABELS, mode='predict')
    found['predictions'] = [sample.pred_score for sample in samples]
    found['layout'] = [images.stride(), next(model.parameters()).stride()]
    model.train()
    seed()
    data = model.data_preprocessor(batch(), True)
    given = dict(indices=data.get('indices', torch.arange(BATCH)))
    terms = model(data['inputs'], data['data_samples'], mode='loss', **given)
    sum(v for k, v in terms.items() if k.startswith('loss')).backward()
    found['terms'] = {name: value.detach() for name, value in terms.items()}
    found['gradients'] = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    found['statistics'] = {name: value for name, value in floats_of(model) if 'running' in name}
    found['verification'] = verification(model)
    return flat(found)


def verification(model: Any) -> str:
    """Whether a run would score the teachers first: here they are always wrong."""
    if not model.teachers:
        return 'no teacher'
    with torch.no_grad():
        images = model.data_preprocessor(batch(), False)['inputs']
        right = model.teachers[0](images, Taps(logits='main').resolved(1, ('main',), 'test'))
    data = batch()
    labels = (right.logits.argmax(dim=1) + 1) % K
    data['data_samples'] = [DataSample().set_gt_label(label) for label in labels.view(-1, 1)]
    data['labels'] = labels
    loader = type('Loader', (list,), dict(dataset=range(BATCH)))([data])
    runner: Any = SimpleNamespace(
        model=model,
        iter=0,
        val_loop=object(),
        val_dataloader=loader,
        logger=logging.getLogger('options'),
    )
    with mock.patch.object(model, 'check_teachers'):
        try:
            VerifyTeacherHook().before_train(runner)
        except RuntimeError:
            return 'verified'
    return 'not verified'


def of_head(head: Any, features: list[Tensor]) -> Fingerprint:
    """Logits of a head and the loss that mmpretrain makes of them."""
    samples = [DataSample().set_gt_label(label) for label in LABELS.view(-1, 1)]

    def call(*given: Tensor) -> Any:
        found.append(head.loss(given, samples))
        return [head(given), *(value.float().sum() for value in tensors_in(found[-1].values()))]

    found: list[dict] = []
    measured = of_module(head, *features, call=call)
    return measured | flat(dict(names=list(found[-1])))


def of_preprocessor(preprocessor: Any) -> Fingerprint:
    """Batches of training and of validation, in two epochs and two iterations."""
    hub = MessageHub.get_current_instance()
    found: Fingerprint = {}
    copies: list = []
    to = Tensor.to

    def note(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        copies.append(kwargs.get('non_blocking'))
        return to(tensor, *args, **kwargs)

    before = {key: hub.runtime_info.get(key) for key in ('epoch', 'iter', 'seed')}
    try:
        for epoch, iteration in ((0, 0), (0, 3), (1, 3)):
            hub.runtime_info.update(epoch=epoch, iter=iteration, seed=9)
            for training in (False, True):
                with mock.patch.object(Tensor, 'to', note):
                    data = preprocessor(batch(), training)
                data = dict(data)
                if isinstance(data['data_samples'], list):
                    data['data_samples'] = [each.gt_label for each in data['data_samples']]
                data['layout'] = data['inputs'].stride()
                found[f'{epoch} {iteration} {training}'] = data
    finally:
        hub.runtime_info.update({k: v for k, v in before.items() if v is not None})
        for key in [k for k, v in before.items() if v is None]:
            hub.runtime_info.pop(key, None)
    return flat(dict(found, copies=copies))


def of_dataset(dataset: Any) -> Fingerprint:
    """Images, labels, indices, classes, and whether they lie in a file on disk."""
    data = identity_collate(dataset.__getitems__(list(range(len(dataset)))))
    return flat(dict(data, classes=list(dataset.metainfo['classes']), length=len(dataset)))


def of_metric(metric: Any) -> Fingerprint:
    """Accuracies of random scores, and where results would be gathered."""
    scores = random_numbers('scores', (40, 3, 9)).mul(3).softmax(dim=-1)
    labels = torch.arange(40)[:, None] % 9
    samples = [
        dict(branch_scores=score, gt_label=label)
        for score, label in zip(scores, labels, strict=True)
    ]
    devices: list = []

    def collect(results: list, size: int, device: str, **_: Any) -> list:
        devices.append(device)
        return results

    metric.process(None, samples)
    with mock.patch('mmengine.evaluator.metric.collect_results', collect):
        values = metric.evaluate(len(samples))
    return flat(dict(values=values, devices=devices))


def of_optim_wrapper(kind: type, options: dict) -> Fingerprint:
    """Weights after four steps."""
    model = nn.Linear(6, 3)
    fill(model)
    given = {'optimizer': torch.optim.SGD(model.parameters(), lr=0.1), **options}
    if callable(given['optimizer']):
        given['optimizer'] = given['optimizer'](model.parameters())
    wrapper = kind(**given)
    weights = []
    for step in range(4):
        with wrapper.optim_context(model):
            loss = model(random_numbers(f'step {step}', (8, 6))).square().mean()
        wrapper.update_params(loss)
        weights.append([each.detach().clone() for each in model.parameters()])
    return flat(weights)


class Recorder(Hook):
    """Epochs, iterations and validations of a run in their order."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def after_train_iter(self, runner: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        self.events.append(f'iteration {runner.epoch} {batch_idx}')

    def after_val_epoch(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        self.events.append(f'validation {runner.epoch}')


def of_files(folder: Path) -> Fingerprint:
    """Files of checkpoints with what they hold."""
    found: Fingerprint = {}
    for path in sorted(folder.rglob('*')):
        if path.suffix == '.pth':
            content = torch.load(path, weights_only=False)
            meta = {key: content.get('meta', {}).get(key) for key in ('epoch', 'iter')}
            found[str(path.relative_to(folder))] = dict(meta=meta, keys=sorted(content))
        elif path.name == 'last_checkpoint':
            found[str(path.relative_to(folder))] = Path(path.read_text()).name
    return found
