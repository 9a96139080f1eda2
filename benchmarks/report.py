"""What the benchmark prints and writes: machine, versions and one table per part."""

import os
import platform
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.measure import Options, Row
from benchmarks.parts import Result

# mmcv is installed under either name; both import as `mmcv`.
_PACKAGES = ('torch', 'torchvision', 'mmengine', 'mmpretrain', 'mmcv', 'mmcv-lite', 'numpy')
_VERDICTS = {True: 'met', False: 'not met', None: ''}


def environment(options: Options) -> dict:
    """Returns machine, versions, threads and options, as plain values."""
    return dict(
        command=' '.join(['python -m benchmarks', *sys.argv[1:]]),
        machine=_machine(options),
        versions=dict(python=platform.python_version(), **_versions()),
        threads=options.threads,
        options=asdict(options),
    )


def as_dict(result: Result) -> dict:
    """Returns the rows of a part as plain values, for JSON."""
    rows = [dict(asdict(row), held=row.held) for row in result.rows]
    return dict(part=result.name, title=result.title, rows=rows)


def header(environment: dict) -> str:
    """Returns the lines above the tables."""
    machine, options = environment['machine'], environment['options']
    versions = ', '.join(f'{name} {number}' for name, number in environment['versions'].items())
    gpu = f', {machine["gpu"]}' if machine['gpu'] else ''
    plan = (
        'short: figures mean nothing'
        if options['short']
        else f'{options["rounds"]} rounds of {options["seconds"]:g} s'
    )
    return '\n'.join(
        (
            f'machine   {machine["cpu"]}, {machine["cores"]} cores{gpu}',
            f'versions  {versions}',
            f'threads   {environment["threads"]}, device {options["device"]}, {plan}',
        )
    )


def table(result: Result) -> str:
    """Returns a Markdown table of a part, its milliseconds as median (quartiles)."""
    head = ('case', 'ratio', 'target', '', 'figures')
    cells = [head, ('---', '---:', '---', '---', '---'), *map(_cells, result.rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = [
        '| '
        + ' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + ' |'
        for line in cells
    ]
    return '\n'.join((f'### {result.name}: {result.title}', '', *lines))


def _cells(row: Row) -> tuple[str, ...]:
    details = dict(row.details)
    value = _number(row.value)
    if row.unit != 'x':
        value += f' {row.unit}'
    value += _spread(details, '')
    figures = []
    for name in row.details:
        if name in details:
            number = details.pop(name)
            figures.append(f'{name} {_number(number)}{_spread(details, f"{name} ")}')
    return row.case, value, row.target or '', _VERDICTS[row.held], '; '.join(figures)


def _spread(details: dict[str, float], prefix: str) -> str:
    """Takes the quartiles of a figure out of the details."""
    if f'{prefix}low' not in details or f'{prefix}high' not in details:
        return ''
    low, high = details.pop(f'{prefix}low'), details.pop(f'{prefix}high')
    return f' ({_number(low)} - {_number(high)})'


def _number(value: float) -> str:
    """Four digits, thousands marked, never in powers of ten."""
    if value == 0 or abs(value) >= 1000:
        return f'{value:,.0f}'
    return f'{value:.4g}' if abs(value) >= 1e-3 else f'{value:.6f}'


def _machine(options: Options) -> dict:
    device = torch.device(options.device)
    gpu = torch.cuda.get_device_name(device) if device.type == 'cuda' else None
    return dict(
        cpu=_cpu_model(), cores=os.cpu_count(), system=platform.platform(terse=True), gpu=gpu
    )


def _cpu_model() -> str:
    info = Path('/proc/cpuinfo')
    if info.exists():
        for line in info.read_text(encoding='utf-8').splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
