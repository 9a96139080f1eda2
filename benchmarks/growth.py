"""(i) How the cost grows with batch, branches and classes."""

from collections.abc import Callable

import torch
from torch import nn

from benchmarks.losses import step_of
from benchmarks.measure import Options, Row, Timing, alternate, ratio
from mmkdfuse.analysis.cost import count_cost
from mmkdfuse.models import KFMSD, Classifier

TITLE = 'growth with batch, branches and classes'

NUM_CLASSES = 100
IMAGE = (3, 32, 32)


def measure(options: Options) -> list[Row]:
    """Times iterations of a narrow KFMSD (full width on a GPU), and its losses by themselves."""
    torch.manual_seed(0)
    width = 4 if options.short else 64 if options.on_gpu else 16
    backbone = dict(arch='resnet18', base_channels=width, stem_channels=width)
    return [
        *_batches(options, backbone),
        *_branches(options, backbone),
        *_classes(options),
    ]


def _iteration(model: nn.Module, batch: int, options: Options) -> Callable[[], None]:
    """Forward, backward and step on one batch."""
    model.to(options.device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    images = torch.randn(batch, *IMAGE, device=options.device)
    labels = torch.arange(batch, device=options.device) % NUM_CLASSES

    def iterate() -> None:
        loss = sum(model(images, labels, mode='loss').values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return iterate


def _batches(options: Options, backbone: dict) -> list[Row]:
    sizes = (2, 4) if options.short else (64, 128, 256, 512)
    model = KFMSD(backbone, NUM_CLASSES, IMAGE[1:])
    timings = alternate({str(n): _iteration(model, n, options) for n in sizes}, options)
    per_image = {
        name: Timing.of([time / int(name) for time in timing.rounds], timing.calls)
        for name, timing in timings.items()
    }
    smallest = str(sizes[0])
    return [
        ratio(
            f'KFMSD iteration, time per image, batch {n} / batch {smallest}',
            per_image,
            str(n),
            smallest,
            target='<= 1.1',
        )
        for n in sizes[1:]
    ]


def _branches(options: Options, backbone: dict) -> list[Row]:
    """The deepest 1, 2, 3 branches; a branch from further below has one more module."""
    batch = 4 if options.short else 128
    models: dict[str, nn.Module] = {'network': Classifier(backbone, NUM_CLASSES, IMAGE[1:])}
    for number in (1, 2, 3):
        neck = dict(branches=number)
        models[_name(number)] = KFMSD(backbone, NUM_CLASSES, IMAGE[1:], neck=neck)
    macs = {name: count_cost(model, IMAGE).macs for name, model in models.items()}
    contenders = {name: _iteration(model, batch, options) for name, model in models.items()}
    timings = alternate(contenders, options)
    rows = []
    for number in (1, 2, 3):
        row = ratio(
            f'KFMSD iteration with {_name(number)} / network alone, batch {batch}',
            timings,
            _name(number),
            'network',
        )
        row.details['ratio of MACs'] = macs[_name(number)] / macs['network']
        before = timings[_name(number - 1) if number > 1 else 'network']
        row.details['added ms'] = timings[_name(number)].milliseconds - before.milliseconds
        rows.append(row)
    return rows


def _name(branches: int) -> str:
    return f'{branches} branch' if branches == 1 else f'{branches} branches'


def _classes(options: Options) -> list[Row]:
    """All terms of KFMSD from logits and features on, forward and backward."""
    batch, width, heads = (4, 8, 4) if options.short else (128, 512, 4)
    counts = (10, 20) if options.short else (100, 1000, 21841)
    backbone = dict(arch='resnet18', base_channels=4, stem_channels=4)
    model = KFMSD(backbone, NUM_CLASSES, IMAGE[1:]).to(options.device)
    contenders = {str(k): _losses(model, batch, width, heads, k, options) for k in counts}
    timings = alternate(contenders, options)
    fewest = str(counts[0])
    rows = []
    for k in counts[1:]:
        case = f'KFMSD losses, forward + backward, batch {batch}, {k:,} classes / {fewest}'
        row = ratio(case, timings, str(k), fewest)
        row.details['time per class / that with ' + fewest] = row.value * counts[0] / k
        rows.append(row)
    return rows


def _losses(
    model: KFMSD, batch: int, width: int, heads: int, classes: int, options: Options
) -> Callable[[], None]:
    def leaves(size: int) -> tuple[torch.Tensor, ...]:
        shape = (heads, batch, size)
        return tuple(torch.randn(shape, device=options.device).requires_grad_().unbind())

    logits = [z.detach().requires_grad_() for z in leaves(classes)]
    features = [f.detach().requires_grad_() for f in leaves(width)]
    labels = torch.arange(batch, device=options.device) % classes

    images = torch.zeros(batch, *IMAGE, device=options.device)

    def compute() -> None:
        step = step_of(model, [*features, *logits], images, labels)
        loss = sum(model.terms_of(step).values())
        torch.autograd.grad(loss, [*logits, *features], allow_unused=True)

    return compute
