"""Checkpoint files: loaded strictly, resumed from, written atomically."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmkdfuse.checkpoint_reader import load_file
from mmkdfuse.inert_pickle import PACKED


def find_mismatches(module: nn.Module, state_dict: Mapping[str, Tensor]) -> list[str]:
    """Keys that keep a state dict from fitting a module exactly; empty if it fits."""
    own = module.state_dict()
    state_dict = dict(state_dict)
    for rename in module._load_state_dict_pre_hooks.values():  # of checkpoints of older versions
        rename(state_dict, '', {}, True, [], [], [])
    return list_mismatches(
        missing=[key for key in own if key not in state_dict],
        unexpected=[key for key in state_dict if key not in own],
        misshapen=[
            f'{key} {tuple(state_dict[key].shape)} instead of {tuple(value.shape)}'
            for key, value in own.items()
            if key in state_dict and state_dict[key].shape != value.shape
        ],
    )


def list_mismatches(**problems: Sequence[str]) -> list[str]:
    """One text per kind of problem that occurs, with ten of its keys."""

    def listed(keys: Sequence[str]) -> str:
        rest = f' and {len(keys) - 10} more' if len(keys) > 10 else ''
        return ', '.join(keys[:10]) + rest

    return [f'{kind}: {listed(keys)}' for kind, keys in problems.items() if keys]


def load_strictly(module: nn.Module, state_dict: Mapping[str, Tensor], name: str) -> None:
    """Load a state dict that must fit exactly.

    Args:
        module: Module to load into.
        state_dict: Tensors by parameter and buffer name.
        name: Name of the weights, for the error message, e.g. ``teacher checkpoint 'wrn40_2.pth'``.

    Raises:
        RuntimeError: Keys are missing, unexpected or of another shape; all are named (ten of each).
    """
    problems = find_mismatches(module, state_dict)
    if problems:
        raise RuntimeError(
            f'{name} does not fit {type(module).__name__}; '
            + '; '.join(problems)
            + ': use the network and class count the weights were trained with '
            '(docs/checkpoints.md lists the layouts of files)'
        )
    module.load_state_dict(state_dict, strict=True)


def pack_resume_state(value: Any, where: str = 'state') -> Any:
    """Turn a nested state into tensors and plain Python values.

    mmengine's message hub holds HistoryBuffers, and metrics leave numpy scalars and arrays: the
    safe reader refuses them. They become tagged dicts that ``unpack_resume_state`` turns back.

    Args:
        value: Nested dicts, lists and tuples.
        where: Name of the value, for the error message.

    Raises:
        RuntimeError: An object has no plain form.
    """
    from mmengine.logging import HistoryBuffer

    if isinstance(value, HistoryBuffer):
        logs, counts = value.data
        return {
            PACKED: 'HistoryBuffer',
            'logs': torch.from_numpy(logs.copy()),
            'counts': torch.from_numpy(counts.copy()),
            'max_length': value.max_length,
        }
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return {
            PACKED: 'ndarray',
            'data': value.tolist() if value.dtype.kind in 'USO' else torch.from_numpy(value.copy()),
        }
    if isinstance(value, os.PathLike):
        return str(value)
    if isinstance(value, Mapping):
        mapping: Any = type(value) if type(value) in (OrderedDict, Counter) else dict
        return mapping({k: pack_resume_state(v, f'{where}.{k}') for k, v in value.items()})
    if isinstance(value, (list, tuple, set, frozenset)):
        packed = [pack_resume_state(v, f'{where}[{i}]') for i, v in enumerate(value)]
        if isinstance(value, list):
            return packed
        return tuple(packed) if isinstance(value, tuple) else set(packed)
    if isinstance(value, Tensor):
        return value.detach()
    for number in (bool, int, float, str):
        if isinstance(value, number):  # of a subclass, such as an enum of strings, the value
            return number(value)
    if value is None or isinstance(value, (bytes, torch.dtype, torch.device)):
        return value
    raise RuntimeError(
        f'{where} is a {type(value).__module__}.{type(value).__qualname__}, which a checkpoint '
        'cannot hold: store tensors, numpy arrays or plain Python values'
    )


def unpack_resume_state(value: Any) -> Any:
    """Undo ``pack_resume_state``; other values pass unchanged."""
    from mmengine.logging import HistoryBuffer

    if isinstance(value, dict):
        tag = value.get(PACKED)
        if tag == 'HistoryBuffer':
            return HistoryBuffer(
                value['logs'].cpu().numpy(), value['counts'].cpu().numpy(), value['max_length']
            )
        if tag == 'ndarray':
            data = value['data']
            return data.cpu().numpy() if isinstance(data, Tensor) else np.array(data)
        return type(value)({k: unpack_resume_state(v) for k, v in value.items()})
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return type(value)(unpack_resume_state(v) for v in value)
    return value


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Write a file so that, whenever the process dies, ``path`` is the old or the new file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A fixed name: what a killed run left behind is overwritten by the next one.
    temporary = path.with_name(f'.{path.name}.tmp')
    with open(temporary, 'wb') as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def latest_checkpoint(work_dir: str | os.PathLike) -> str | None:
    """Find the file from which a run in ``work_dir`` can be resumed.

    The pointer ``last_checkpoint`` is followed if its file can be loaded. A file of that name
    inside ``work_dir`` comes first, so that a copied work directory resumes from its own files.
    Otherwise the loadable checkpoint with the most iterations is taken, with a warning.

    Returns:
        The path, or None if nothing in ``work_dir`` can be resumed.
    """
    from mmengine.logging import print_log

    work_dir = Path(work_dir)
    pointer = work_dir / 'last_checkpoint'
    problem = 'it does not exist'
    if pointer.is_file():
        target = Path(pointer.read_text(errors='replace').strip() or 'nothing')
        for candidate in (work_dir / target.name, target):
            if candidate.is_file():
                if _iterations(candidate) is not None:
                    return str(candidate)
                problem = f"'{candidate}' cannot be resumed"
                break
        else:
            problem = f"it names '{target}', which does not exist"
    progress = {path: _iterations(path) for path in work_dir.glob('*.pth')}
    usable = {path: iterations for path, iterations in progress.items() if iterations is not None}
    if not usable:
        return None
    found = max(usable, key=lambda path: (usable[path], path.stat().st_mtime))
    print_log(
        f"'{pointer}' is of no use ({problem}): resuming from the newest loadable file, '{found}'",
        logger='current',
        level=30,
    )
    return str(found)


def _iterations(path: Path) -> int | None:
    """Iterations trained in a resumable checkpoint, None if it is broken or holds weights only."""
    try:
        checkpoint = load_file(path)
        return int(checkpoint['meta']['iter']) if 'optimizer' in checkpoint else None
    except (RuntimeError, FileNotFoundError, KeyError, TypeError):
        return None
