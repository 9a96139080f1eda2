"""(d) All loss terms of KFMSD beside the iteration that they are part of."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kfmsd_step import (
    IMAGE_SIZE,
    batch_of,
    build_kfmsd,
    iteration,
    written_out_loss,
)
from benchmarks.measure import Options, Row, alternate, ratio
from mmkdfuse.models import KFMSD, MutualKLLoss
from mmkdfuse.structures import NetworkOutput, Step, TapKeys

TITLE = 'loss terms, forward + backward'

CLASSES = (100, 1000, 21841)
SHORT_CLASSES = (10,)
HEADS = 4
TAU = 3.0

Leaves = tuple[Tensor, ...]


def measure(options: Options) -> list[Row]:
    """Times all terms against an iteration of ResNet18, and eq. 8 against itself written out."""
    rows = _beside_iteration(options)
    for classes in SHORT_CLASSES if options.short else CLASSES:
        rows.append(_mutual(classes, options))
    return rows


def _beside_iteration(options: Options) -> list[Row]:
    inputs, labels = batch_of(options)
    model = build_kfmsd(options)
    with torch.no_grad():
        output = model.run(inputs, TapKeys(features=model.head_names, logits=model.head_names))
    heads = model.num_heads
    tensors = (*output.head_features.values(), *output.head_logits.values())
    leaves = tuple(leaf.requires_grad_() for leaf in tensors)

    def ours(*leaves: Tensor) -> Tensor:
        return _sum_of_terms(model, leaves, inputs, labels)

    def written_out(*leaves: Tensor) -> Tensor:
        return written_out_loss(leaves[:heads], list(leaves[heads:]), labels)

    timings = alternate(
        {
            'losses': _forward_backward(ours, leaves),
            'written out': _forward_backward(written_out, leaves),
            'iteration': iteration(model, inputs, labels),
        },
        options,
    )
    name = f'ResNet18, {len(inputs)} images of {IMAGE_SIZE} pixels'
    return [
        ratio(f'all terms / iteration, {name}', timings, 'losses', 'iteration', '<= 0.03'),
        ratio(f'all terms / eqs. 8-10 written out, {name}', timings, 'losses', 'written out'),
    ]


def _sum_of_terms(model: KFMSD, leaves: Leaves, inputs: Tensor, labels: Tensor) -> Tensor:
    loss, _ = model.parse_losses(model.terms_of(step_of(model, leaves, inputs, labels)))
    return loss


def step_of(model: KFMSD, leaves: Sequence[Tensor], inputs: Tensor, labels: Tensor) -> Step:
    """Returns what the losses get of features and logits of every head, the features first."""
    features, logits = leaves[: model.num_heads], leaves[model.num_heads :]
    output = NetworkOutput(
        len(model.stage_shapes),
        {},
        dict(zip(model.head_names, features, strict=True)),
        dict(zip(model.head_names, logits, strict=True)),
    )
    return Step(inputs, labels, None, 0, 0, output, ())


def _mutual(classes: int, options: Options) -> Row:
    images = 8 if options.short else 128
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(HEADS, images, classes, generator=generator).to(options.device)
    leaves = tuple(z.clone().requires_grad_() for z in logits)
    loss = MutualKLLoss(TAU)
    timings = alternate(
        {
            'MutualKLLoss': _forward_backward(lambda *z: loss(z[-1], z[:-1]), leaves),
            'eq. 8': _forward_backward(lambda *z: _equation_8(z[-1], z[:-1]), leaves),
        },
        options,
    )
    name = f'{HEADS} heads, {images} images, {classes:,} classes'
    return ratio(f'MutualKLLoss / eq. 8 written out, {name}', timings, 'MutualKLLoss', 'eq. 8')


def _equation_8(main: Tensor, branches: Sequence[Tensor]) -> Tensor:
    """One divergence after the other, the first argument of each without gradient."""

    def divergence(target: Tensor, student: Tensor) -> Tensor:
        log_p, log_q = (F.log_softmax(z / TAU, dim=1) for z in (target.detach(), student))
        return F.kl_div(log_q, log_p, reduction='batchmean', log_target=True)

    return torch.stack([divergence(main, z) + divergence(z, main) for z in branches]).sum()


def _forward_backward(loss: Callable[..., Tensor], leaves: Leaves) -> Callable[[], object]:
    def call() -> object:
        return torch.autograd.grad(loss(*leaves), leaves, allow_unused=True)

    return call
