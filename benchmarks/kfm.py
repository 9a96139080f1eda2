"""(c) The knowledge fusion module beside its equations written out."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.measure import Options, Row, alternate, ratio
from mmkdfuse.models import KFM

TITLE = 'KFM, forward + backward, two maps / eqs. 1-5 written out'

Fuse = Callable[[Sequence[Tensor]], Tensor]

# Shape of the maps -> largest time, as a share of that of the equations.
SHAPES = {(128, 256, 8, 8): 0.8, (128, 128, 16, 16): 0.55}
SHORT_SHAPES = {(2, 8, 4, 4): 0.8}
LAYOUTS = {'': torch.contiguous_format, ', channels-last': torch.channels_last}
COMPILED_TARGET = 0.5
BYTES_TARGET = 0.5
TOLERANCE = 1e-6


def equations(maps: Sequence[Tensor], eps: float = 1e-4) -> Tensor:
    """Eqs. 1-5 as printed; autograd differentiates them."""
    n = len(maps)
    mean = sum(maps) / n
    height, width = mean.shape[2:]
    square = (mean - mean.mean(dim=(2, 3), keepdim=True)) ** 2
    variance = square.sum(dim=(2, 3), keepdim=True) / (height * width - 1)
    mask = torch.sigmoid(square / (4 * variance + 4 * eps) + 0.5)
    return sum(mask * feature_map for feature_map in maps) / n


def measure(options: Options) -> list[Row]:
    """Times KFM, eager and compiled; counts what it keeps; compares values and gradients."""
    kfm = KFM()
    # Compiling takes longer than a short run may: there the graph is only captured.
    backend = 'aot_eager' if options.short else 'inductor'
    fuses: dict[str, Fuse] = {
        'KFM': kfm,
        'equations': equations,
        'compiled KFM': torch.compile(kfm, backend=backend, fullgraph=True),
        'compiled equations': torch.compile(equations, backend=backend, fullgraph=True),
    }
    rows = []
    for shape, target in (SHORT_SHAPES if options.short else SHAPES).items():
        for layout, memory_format in LAYOUTS.items():
            rows += _rows(f'{shape}{layout}', fuses, _inputs(shape, memory_format, options), target)
    return rows


def _inputs(
    shape: tuple[int, ...], memory_format: torch.memory_format, options: Options
) -> tuple[list[Tensor], Tensor, Options]:
    generator = torch.Generator().manual_seed(0)
    *maps, grad = (
        torch.randn(shape, generator=generator).to(options.device, memory_format=memory_format)
        for _ in range(3)
    )
    return [feature_map.requires_grad_() for feature_map in maps], grad, options


def _rows(
    name: str,
    fuses: dict[str, Fuse],
    inputs: tuple[list[Tensor], Tensor, Options],
    target: float,
) -> list[Row]:
    maps, grad, options = inputs

    def step(fuse: Fuse) -> tuple[Tensor, ...]:
        fused = fuse(maps)
        return (fused.detach(), *torch.autograd.grad(fused, maps, grad))

    timings = alternate(
        {key: (lambda fuse=fuse: step(fuse)) for key, fuse in fuses.items()}, options
    )
    expected = step(fuses['equations'])
    rows = [
        ratio(f'KFM / equations, {name}', timings, 'KFM', 'equations', f'<= {target}'),
        ratio(
            f'compiled KFM / equations, {name}',
            timings,
            'compiled KFM',
            'equations',
            f'<= {COMPILED_TARGET}',
        ),
        ratio(
            f'compiled KFM / compiled equations, {name}',
            timings,
            'compiled KFM',
            'compiled equations',
        ),
    ]
    kept, theirs = (saved_bytes(fuses[key], maps) for key in ('KFM', 'equations'))
    rows.append(
        Row(
            f'bytes saved for backward, KFM / equations, {name}',
            kept / theirs,
            target=f'<= {BYTES_TARGET}',
            details={'KFM MiB': kept / 2**20, 'equations MiB': theirs / 2**20},
        )
    )
    for key in ('KFM', 'compiled KFM'):
        rows.append(
            Row(
                f'largest relative difference of {key}, value and gradients, {name}',
                max(map(_difference, step(fuses[key]), expected)),
                unit='',
                target=f'<= {TOLERANCE}',
            )
        )
    return rows


def saved_bytes(fuse: Fuse, maps: Sequence[Tensor]) -> int:
    """Bytes of memory that the backward pass keeps alive, each counted once."""
    storages = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        fused = fuse(maps)  # alive until all is counted, or an address might be taken twice
    del fused
    return sum(storages.values())


def _difference(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()
