"""Checkpoint files: read without running code, loaded strictly, written atomically."""

from __future__ import annotations

import os
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_TAG = '__packed__'


def load_file(path: str | os.PathLike, map_location: Any = 'cpu') -> dict:
    """Read a checkpoint; code inside the file is never run (``weights_only=True``).

    Args:
        path: A file written by ``torch.save``.
        map_location: Device of the tensors, as in ``torch.load``.

    Raises:
        FileNotFoundError: There is no such file.
        RuntimeError: The file is truncated, not a checkpoint, or holds objects other than tensors
            and plain Python values.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint '{path}' does not exist: check the path")
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        refused = _refused_objects(path, str(error))
        if refused:
            raise RuntimeError(
                f"checkpoint '{path}' is refused because it holds {', '.join(refused)} and loading "
                'them would run code of the file: where it was made and is trusted, save only '
                "dict(meta=..., state_dict=...) of plain values and load that file (mmengine's own "
                "hook does so with published_keys=['meta', 'state_dict'])"
            ) from None
        reason = (str(error) or type(error).__name__).split('\n')[0].split('. ')[0]
        raise RuntimeError(
            f"checkpoint '{path}' cannot be read, it is truncated or not a file of torch.save "
            f'({reason}): copy or download it again, or resume from an older one'
        ) from error
    if not isinstance(checkpoint, dict):
        raise RuntimeError(
            f"checkpoint '{path}' holds a {type(checkpoint).__name__}, expected a dict of tensors "
            "or a dict with the key 'state_dict'"
        )
    return checkpoint


def _refused_objects(path: Path, error: str) -> list[str]:
    """Names of the classes and functions for which the safe reader refused a file."""
    if 'GLOBAL' not in error:
        return []
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # files of the old, unzipped format cannot be scanned
        return re.findall(r'GLOBAL (\S+)', error)[:1]


def load_from_safe_file(filename: str, map_location: Any = None) -> dict:
    """Loader of local files for mmengine, see ``register_safe_loaders``."""
    return load_file(filename, map_location)


def load_from_safe_url(filename: str, map_location: Any = None) -> dict:
    """Loader of http(s) addresses for mmengine, see ``register_safe_loaders``."""
    from mmengine.dist import barrier, get_rank

    if get_rank() > 0:  # rank 0 downloads into torch's cache, the others read it there
        barrier()
    checkpoint = torch.hub.load_state_dict_from_url(
        filename, map_location=map_location, weights_only=True
    )
    if get_rank() == 0:
        barrier()
    return checkpoint


def register_safe_loaders() -> None:
    """Let every loader of mmengine's Runner (resume, load_from, test) refuse code in files.

    mmengine leaves ``weights_only`` to torch's default, which was False before torch 2.6 and still
    is for downloads.
    """
    from mmengine.runner import CheckpointLoader

    CheckpointLoader.register_scheme(prefixes='', loader=load_from_safe_file, force=True)
    CheckpointLoader.register_scheme(
        prefixes=('http://', 'https://'), loader=load_from_safe_url, force=True
    )


def find_mismatches(module: nn.Module, state_dict: Mapping[str, Tensor]) -> list[str]:
    """What keeps a state dict from fitting a module exactly; empty if it fits."""
    own = module.state_dict()
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
    """One text per kind of problem, of which there are any, with ten of its keys."""

    def listed(keys: Sequence[str]) -> str:
        rest = f' and {len(keys) - 10} more' if len(keys) > 10 else ''
        return ', '.join(keys[:10]) + rest

    return [f'{kind}: {listed(keys)}' for kind, keys in problems.items() if keys]


def load_strictly(module: nn.Module, state_dict: Mapping[str, Tensor], name: str) -> None:
    """Load a state dict that must fit exactly.

    Args:
        module: Where to load.
        state_dict: Tensors by parameter and buffer name.
        name: What is loaded, for the error message, e.g. ``teacher checkpoint 'wrn40_2.pth'``.

    Raises:
        RuntimeError: Keys are missing, unexpected or of another shape; all are named (ten of each).
    """
    problems = find_mismatches(module, state_dict)
    if problems:
        raise RuntimeError(
            f'{name} does not fit {type(module).__name__}; '
            + '; '.join(problems)
            + ': use the network and class count the weights were trained with'
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
            _TAG: 'HistoryBuffer',
            'logs': torch.from_numpy(logs.copy()),
            'counts': torch.from_numpy(counts.copy()),
            'max_length': value.max_length,
        }
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return {
            _TAG: 'ndarray',
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
    """Turn what ``pack_resume_state`` made back; other values pass unchanged."""
    from mmengine.logging import HistoryBuffer

    if isinstance(value, dict):
        tag = value.get(_TAG)
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

    The pointer ``last_checkpoint`` is followed if its file can be loaded; a file of that name
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
