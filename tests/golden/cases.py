"""The recorded cases, and how one is built, filled with weights and measured.

Weights depend on the names and shapes of the parameters alone, not on the order in which a model
creates them, and everything is computed in float64, so that values recorded with one structure of
the code hold for another.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmkdfuse.registry import MODELS

FILE = Path(__file__).with_name('methods.json')
K, IMAGE, BATCH = 10, 32, 4
EPOCH, MAX_EPOCHS = 3, 240  # the epoch counts from 0
NETWORKS = {
    'resnet18': dict(arch='resnet18', base_channels=8, stem_channels=8),
    'vgg8': dict(arch='vgg8', base_channels=8),
    'mobilenet_v1': dict(arch='mobilenet_v1', base_channels=8),
}
TEACHERS = (
    dict(arch='resnet8x4', base_channels=8, stem_channels=8),
    dict(arch='vgg8', base_channels=8),
)
# Parameters that move from the model to its losses, known by the rest of their names.
MOVED = ('regressors.', 'adapters.')


@dataclass(frozen=True)
class Case:
    """A method with its options on one network, with as many teachers as it asks for."""

    method: str
    network: str = 'resnet18'
    options: dict[str, Any] = field(default_factory=dict)
    teachers: int = 0


def _cases() -> dict[str, Case]:
    cases = {}
    for network in NETWORKS:
        for method in ('Classifier', 'KFMSD', 'BYOT', 'FKD', 'DML'):
            cases[f'{method}-{network}'] = Case(method, network)
        for method in ('KD', 'DKD', 'FitNet', 'SimKD', 'MFAKD'):
            cases[f'{method}-{network}'] = Case(method, network, teachers=1)
    conference = dict(
        neck=dict(form='conference'),
        alpha=0.1,
        tau=3.0,
        scale_by_tau2=True,
        feature_weight=128e-6,
        feature_loss=dict(reduction='squared'),
        adapters=False,
        exempt_deepest=False,
    )
    rsd = dict(neck=dict(fuse='none'), mutual_loss=dict(direction='to_main'))
    transposed = dict(connector=dict(upsample='transposed'))
    variants = {
        'RSD': Case('KFMSD', options=rsd),
        'KFMSD-sepconv': Case('KFMSD', options=dict(neck=dict(module='sepconv'))),
        'KFMSD-squared': Case('KFMSD', options=dict(feature_loss=dict(reduction='squared'))),
        'KFMSD-gamma0': Case('KFMSD', options=dict(gamma=0.0)),
        'BYOT-conference': Case('BYOT', options=conference),
        'DML-2peers': Case('DML', options=dict(peers=2)),
        'KD-2teachers': Case('KD', teachers=2),
        'FitNet-kd': Case('FitNet', options=dict(kd_weight=1.0, stage=1), teachers=1),
        'MFAKD-2teachers': Case('MFAKD', teachers=2),
        'MFAKD-beta': Case('MFAKD', options=dict(beta=0.4), teachers=1),
        'MFAKD-smooth_l1': Case('MFAKD', options=dict(loss='smooth_l1'), teachers=1),
        'MFAKD-rmse': Case('MFAKD', options=dict(loss='rmse'), teachers=1),
        'MFAKD-ce': Case('MFAKD', options=dict(loss='ce'), teachers=1),
        'MFAKD-transposed': Case('MFAKD', options=transposed, teachers=1),
    }
    return {**cases, **{f'{name}-{case.network}': case for name, case in variants.items()}}


CASES = _cases()


def canonical(name: str) -> str:
    """Name of a weight that does not depend on where the student and the losses are held."""
    name = name.removeprefix('student.')
    parts = f'.{name}'
    for moved in MOVED:
        if f'.{moved}' in parts:
            return parts[parts.index(f'.{moved}') + 1 :]
    return name


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """Logits, terms of the loss and gradients of a case.

    Args:
        case: What to build.
        folder: Takes the teachers' checkpoints.

    Returns:
        ``logits``: of every head, evaluated; ``terms``: by name, in training mode; ``gradients``
        of the sum of all terms: by the parameter's name, the norm and the product with a fixed
        random unit vector.
    """
    with DefaultScope.overwrite_default_scope('mmkdfuse'), _float64(), _epoch():
        model = build(case, folder)
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(BATCH, 3, IMAGE, IMAGE, generator=generator, dtype=torch.float64)
        labels = torch.tensor([0, 3, 9, 3])
        with torch.no_grad():
            logits = model.eval()(images, mode='tensor')
        model.train()
        torch.manual_seed(0)
        terms = model(images, labels, mode='loss')
        sum(terms.values()).backward()
    heads = [logits] if isinstance(logits, Tensor) else list(logits)
    return dict(
        logits=[head.tolist() for head in heads],
        terms={name: term.item() for name, term in terms.items()},
        gradients=_gradients(model),
    )


def build(case: Case, folder: Path) -> nn.Module:
    """Build the model in float64, with all weights filled and the teachers loaded."""
    cfg = dict(type=case.method, num_classes=K, image_size=IMAGE, **case.options)
    network = NETWORKS[case.network]
    if case.teachers:
        teachers = [_teacher(index, folder) for index in range(case.teachers)]
        cfg.update(student=network, teacher=teachers if len(teachers) > 1 else teachers[0])
    else:
        cfg.update(backbone=network)
    # The teachers are rewritten to cost less when they are loaded, in float64 without rounding.
    model = MODELS.build(cfg).double()
    model.init_weights()
    fill(model)
    if hasattr(model, 'set_progress'):
        model.set_progress(EPOCH, MAX_EPOCHS)
    return model


def fill(model: nn.Module, prefix: str = '') -> None:
    """Overwrite all weights but those of frozen modules, which are copies of a teacher's."""
    seen = set()
    for path, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            continue
        tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for name, tensor in tensors:
            if not tensor.is_floating_point():
                continue
            full = prefix + canonical(f'{path}.{name}' if path else name)
            assert full not in seen, f'two weights are called {full}'
            seen.add(full)
            with torch.no_grad():
                tensor.copy_(_values(full, tensor.shape))


def _values(name: str, shape: Sequence[int]) -> Tensor:
    values = _noise(f'{name} {tuple(shape)}', shape)
    if name.endswith('running_var'):
        return 0.75 + 0.5 * values.sigmoid()
    if name.endswith(('running_mean', 'bias')):
        return 0.1 * values
    if len(shape) < 2:
        return 1 + 0.1 * values
    return values * (2 / values[0].numel()) ** 0.5


def _noise(seed: str, shape: Sequence[int]) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(seed.encode()))
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64)


def _teacher(index: int, folder: Path) -> dict[str, Any]:
    """Config of a teacher whose checkpoint lies in the folder."""
    path = folder / f'teacher{index}.pth'
    if not path.exists():
        cfg = dict(type='Classifier', backbone=TEACHERS[index], num_classes=K, image_size=IMAGE)
        network = MODELS.build(cfg).double()
        fill(network, prefix=f'teacher{index}.')
        torch.save(dict(meta={}, state_dict=network.state_dict()), path)
    return dict(TEACHERS[index], checkpoint=str(path))


def _gradients(model: nn.Module) -> dict[str, list[float]]:
    gradients = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        own = canonical(name)
        assert own not in gradients, f'two parameters are called {own}'
        direction = _noise(f'direction of {own}', parameter.shape)
        direction /= direction.norm()
        gradient = torch.zeros_like(direction) if parameter.grad is None else parameter.grad
        gradients[own] = [gradient.norm().item(), (gradient * direction).sum().item()]
    return gradients


@contextmanager
def _float64() -> Iterator[None]:
    """Losses, which compute at least in float32, do not cut float64 down to it."""
    original = Tensor.float

    def keep(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return tensor if tensor.dtype == torch.float64 else original(tensor, *args, **kwargs)

    Tensor.float = keep
    try:
        yield
    finally:
        Tensor.float = original


@contextmanager
def _epoch() -> Iterator[None]:
    """The epoch as a training loop publishes it."""
    info = MessageHub.get_current_instance().runtime_info
    before = info.get('epoch')
    info['epoch'] = EPOCH
    try:
        yield
    finally:
        if before is None:
            info.pop('epoch', None)
        else:
            info['epoch'] = before
