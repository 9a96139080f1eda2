"""Nothing in a training step waits for the device.

The steps run on torch's meta device, whose tensors have no values: `.item()`, `bool()`, `.cpu()`,
`.tolist()`, `nonzero`, indices of booleans and whatever else must know a value raise there. What
makes a GPU wait although the host needs no value, copies of pageable memory, `NoBlockingCopies`
refuses. Nor is there a Python object per image.
"""

import uuid

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from test_contract import ALONE, METHODS, TEACHER, K, config_of
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mmkdfuse.datasets.image_store import StoreDataset
from mmkdfuse.engine import OptimWrapper, deferred_scalars
from mmkdfuse.engine.hooks import invalid_loss_hook
from mmkdfuse.models import Classifier
from mmkdfuse.models.losses import ClassificationLoss
from mmkdfuse.registry import MODELS

DEVICE = torch.device('meta')
PREPROCESSOR = dict(
    type='BatchPreprocessor', mean=[120.0] * 3, std=[60.0] * 3, crop_padding=4, flip_prob=0.5
)
BATCH, STEPS = 4, 8  # images, batches of an epoch


class NoBlockingCopies(TorchDispatchMode):
    """Raises where host memory goes to the device, or a mask of booleans is counted there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ('_to_copy', 'copy_') and not (kwargs or {}).get(
            'non_blocking', args[2:] == [1]
        ):
            source = args[1] if name == 'copy_' else args[0]
            if source.device != result.device:
                raise RuntimeError(f'blocking copy from {source.device} to {result.device}')
        if name in ('index', 'index_put', 'index_put_', '_index_put_impl_'):
            for index in args[1]:
                if index is not None and index.device != args[0].device:
                    raise RuntimeError(f'an index on {index.device} for {args[0].device}')
                masked_fill = name != 'index' and args[2].numel() == 1
                if index is not None and index.dtype in (torch.bool, torch.uint8):
                    if not masked_fill:
                        raise RuntimeError('the number of true elements is read')
        return result


class NoLists(TorchFunctionMode):
    """Raises where Python values become a tensor on the device by a copy."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        place = {'tensor': 0, 'as_tensor': 0, 'new_tensor': 1, '__getitem__': 1}
        at = place.get(getattr(func, '__name__', ''))
        if at is not None and isinstance(args[at], (list, float)) and result.device == DEVICE:
            raise RuntimeError('values of a list are copied to the device')
        return result


class Waiting:
    """Both of the above."""

    def __enter__(self):
        self.modes = [NoLists(), NoBlockingCopies()]
        for mode in self.modes:
            mode.__enter__()

    def __exit__(self, *error):
        for mode in reversed(self.modes):
            mode.__exit__(*error)


class Noise(StoreDataset):
    def __init__(self, images):
        random = np.random.default_rng(0)
        pixels = random.integers(0, 256, (images, 3, 32, 32), dtype=np.uint8)
        super().__init__(
            classes=[str(k) for k in range(K)],
            read=lambda: (pixels, random.integers(0, K, images)),
        )


def build(method, network, **changes):
    with DefaultScope.overwrite_default_scope('mmkdfuse'):
        cfg = dict(config_of(method, network), data_preprocessor=PREPROCESSOR, **changes)
        return MODELS.build(cfg).to(DEVICE)


def wrapper_of(model, kind=OptimWrapper):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    return kind(optimizer, clip_grad=dict(max_norm=1.0))


SYNCS = {
    'item': lambda x: x.sum().item(),
    'float': lambda x: float(x.detach().sum()),
    'bool': lambda x: 1 if (x > 0).any() else 0,
    'cpu': lambda x: x.cpu(),
    'to': lambda x: x.to('cpu', non_blocking=True),
    'tolist': lambda x: x.tolist(),
    'numpy': lambda x: x.detach().numpy(),
    'nonzero': lambda x: x.nonzero(),
    'where': lambda x: torch.where(x > 0),
    'masked_select': lambda x: x.masked_select(x > 0),
    'boolean index': lambda x: x[x > 0],
    'boolean assignment': lambda x: x.clone().__setitem__(x[:, 0] > 0, x),
    'unique': lambda x: x.unique(),
    'equal': lambda x: torch.equal(x, x + 1),
    'allclose': lambda x: torch.allclose(x, x),
    'one_hot': lambda x: torch.nn.functional.one_hot(x.argmax(dim=1)),
    'repeat_interleave': lambda x: x.repeat_interleave(x.argmax(dim=1), dim=0),
    'tensor of a list': lambda x: torch.tensor([1.0, 2.0], device=x.device),
    'new_tensor': lambda x: x.new_tensor([1.0, 2.0]),
    'host tensor': lambda x: x + torch.ones(x.shape[1]).to(x.device),
    'index on the host': lambda x: x[torch.tensor([0, 1])],
    'index by a list': lambda x: x[[0, 1]],
}


@pytest.mark.parametrize('sync', SYNCS.values(), ids=SYNCS)
def test_what_waits_is_noticed(sync):
    with pytest.raises((RuntimeError, TypeError)), Waiting():
        sync(torch.randn(4, 3, device=DEVICE, requires_grad=True))


FREE = {
    'arithmetic with numbers': lambda x: (2 * x + 1).clamp(min=0.5) / 3,
    'index of integers': lambda x: x[torch.arange(2, device=x.device)],
    'index_select': lambda x: x.index_select(0, x.argmax(dim=1)),
    'choice by a mask': lambda x: torch.where(x > 0, x, 0.0).masked_fill(x > 1, 0.0),
    'number by a mask': lambda x: x.clone().__setitem__(x > 0, 0.0),
    'new on the device': lambda x: x + torch.full((3,), 0.5, device=x.device),
    'asynchronous copy': lambda x: x + torch.ones(3).to(x.device, non_blocking=True),
}


@pytest.mark.parametrize('free', FREE.values(), ids=FREE)
def test_what_does_not_wait_passes(free):
    with Waiting():
        free(torch.randn(4, 3, device=DEVICE))


HINT = dict(type='HintLoss', stage=2)
TAUGHT = [(method, dict(teacher=TEACHER, losses=[dict(type='KDLoss'), HINT])) for method in ALONE]


@pytest.mark.parametrize(('method', 'changes'), [*((name, {}) for name in METHODS), *TAUGHT])
def test_a_training_step_of_every_method(method, changes, tiny_backbone):
    model = build(method, tiny_backbone, **changes)
    optimizer = wrapper_of(model)
    model.train()
    batch = Noise(BATCH).store.batch(range(BATCH))
    with Waiting():
        for _ in range(2):
            outputs = model.train_step(batch, optimizer)
    assert all(term.device == DEVICE for term in outputs.values())


class Reading(ClassificationLoss):
    def terms(self, step):
        factor = 1 if step.targets.max() else 0
        return {name: factor * term for name, term in super().terms(step).items()}


def test_a_loss_that_reads_is_noticed(tiny_backbone):
    cfg = dict(losses=[Reading()], data_preprocessor=PREPROCESSOR)
    model = Classifier(tiny_backbone, K, 32, **cfg).to(DEVICE)
    batch = Noise(BATCH).store.batch(range(BATCH))
    with pytest.raises(RuntimeError, match='item'), Waiting():
        model.train_step(batch, wrapper_of(model))


class Modes(Hook):
    """Watches everything between the start of the training and its end."""

    priority = 'VERY_HIGH'

    def __init__(self):
        self.waiting = Waiting()

    def before_train(self, runner):
        self.waiting.__enter__()

    def train_stopped(self, runner):
        self.waiting.__exit__(None, None, None)


@pytest.fixture(autouse=True)
def _run(monkeypatch):
    """A message hub without the past of other tests, and autocast, which knows no meta device."""
    MessageHub.get_instance(f'syncs_{uuid.uuid4().hex}')
    autocast = torch.autocast
    monkeypatch.setattr(torch, 'autocast', lambda _, *args, **kw: autocast('cpu', *args, **kw))


@pytest.fixture
def on_device(monkeypatch):
    monkeypatch.setattr('mmengine.runner.runner.get_device', lambda: DEVICE.type)
    # Reads buffers, before training.
    monkeypatch.setattr(invalid_loss_hook, '_not_finite', lambda state_dict: [])


def build_runner(model, work_dir, wrapper='OptimWrapper', **hooks):
    model.init_weights = lambda: None  # there are no values to initialise
    hooks = {
        'logger': dict(type='LoggerHook', interval=3),
        'checkpoint': dict(type='CheckpointHook', interval=-1, save_last=False),
        'sync_buffers': dict(type='SyncBuffersHook'),
        'invalid_loss': dict(type='InvalidLossHook', interval=50),
        'interrupt': dict(type='InterruptHook'),
        'progress': dict(type='ProgressHook'),
        **hooks,
    }
    optimizer = dict(type='SGD', lr=0.1, momentum=0.9)
    return Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=Noise(BATCH * STEPS),
            batch_size=BATCH,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='identity_collate'),
        ),
        train_cfg=dict(type='ResumableEpochTrainLoop', max_epochs=2),
        optim_wrapper=dict(type=wrapper, optimizer=optimizer, clip_grad=dict(max_norm=1.0)),
        param_scheduler=[dict(type='CosineAnnealingLR', T_max=2, convert_to_iter_based=True)],
        default_hooks=hooks,
        custom_hooks=[Modes()],
        default_scope='mmkdfuse',
        log_level='WARNING',
        experiment_name=f'syncs_{uuid.uuid4().hex}',
    )


@pytest.mark.parametrize('method', ['KFMSD', 'MFAKD'])
def test_a_run_waits_at_log_lines_and_at_the_end_of_an_epoch_only(
    method, tiny_backbone, tmp_path, monkeypatch, on_device
):
    reads = []

    def read(values):
        reads.append((runner.iter, len(values)))
        return np.ones(values.shape)

    monkeypatch.setattr(deferred_scalars, 'to_host', read)
    runner = build_runner(build(method, tiny_backbone), tmp_path)
    runner.train()
    assert runner.iter == 2 * STEPS
    terms = sum(key.startswith('train/loss') for key in runner.message_hub.log_scalars)
    # Iterations 3 and 6 of each epoch and its end: all terms, and in log lines the gradient's norm.
    steps = [(2, 3), (5, 3), (8, 2), (10, 3), (13, 3), (16, 2)]
    expected = [(at, n * terms) for at, n in steps] + [(2, 3), (5, 3), (10, 5), (13, 3)]
    assert sorted(reads) == sorted(expected)
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 2 * STEPS


@pytest.mark.parametrize('method', ['KFMSD', 'MFAKD'])
def test_training_makes_no_python_object_per_image(
    method, tiny_backbone, tmp_path, monkeypatch, on_device
):
    made = []

    def counted(name, original):
        return lambda *args, **kwargs: made.append(name) or original(*args, **kwargs)

    for owner, name in (
        (BaseDataElement, '__init__'),
        (StoreDataset, '__getitem__'),
    ):
        monkeypatch.setattr(owner, name, counted(name, getattr(owner, name)))
    monkeypatch.setattr(deferred_scalars, 'to_host', lambda values: np.ones(values.shape))
    build_runner(build(method, tiny_backbone), tmp_path).train()
    assert made == []
    # Noticed is what an image makes where there are such objects: in a validation.
    Classifier(tiny_backbone, K, 32)(torch.zeros(BATCH, 3, 32, 32), mode='predict')
    assert made.count('__init__') == BATCH
    assert Noise(BATCH)[0]['labels'].ndim == 0 and '__getitem__' in made


@pytest.mark.parametrize(
    'hooks, wrapper',
    [
        ({'runtime_info': dict(type='mmengine.RuntimeInfoHook')}, 'mmkdfuse.OptimWrapper'),
        ({}, 'mmengine.OptimWrapper'),
    ],
)
def test_mmengines_own_parts_would_wait(hooks, wrapper, tiny_backbone, tmp_path, on_device):
    runner = build_runner(build('Classifier', tiny_backbone), tmp_path, wrapper, **hooks)
    with pytest.raises(RuntimeError, match='item'):
        runner.train()
    assert runner.iter == 0
