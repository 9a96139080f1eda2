"""Files of weights, whoever wrote them: read without running code, one set of rules for all."""

from __future__ import annotations

import os
import re
import tarfile
import warnings
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkdfuse.inert_pickle import Inert, ProgramError, read_without_code

TEACHER, STUDENT = 'teacher', 'student'
# Where training codes put the weights, the likelier place first.
_PLACES = ('state_dict', 'model', 'net', 'model_state_dict', 'module')
_WRAPPERS = ('module.', 'model.')
# What averages of weights count beside them.
_COUNTERS = {'n_averaged', 'steps'}
# Networks that mmrazor trains together; the student's names, the likelier first.
_ROLES = {TEACHER: ('teacher.',), STUDENT: ('student.', 'architecture.')}


class CheckpointError(RuntimeError, ValueError):
    """A file of weights that cannot be used, said in one sentence."""


class KeyedPath(str):
    """Path of a file whose weights are under ``key``."""

    key: str | None = None


def checkpoint_path(checkpoint: Any, where: str = 'checkpoint') -> KeyedPath:
    """Bring the ways to name weights to one form.

    Args:
        checkpoint: A path, an address, or ``dict(file=.., key=..)``, where ``key`` says what to
            read where a file holds several sets of weights.
        where: Name of the option, for the error message.

    Raises:
        ValueError: It is something else.

    Example:
        >>> path = checkpoint_path(dict(file='resnet50.pth', key='state_dict_ema'))
        >>> path, path.key
        ('resnet50.pth', 'state_dict_ema')
    """
    file, key = checkpoint, getattr(checkpoint, 'key', None)
    if isinstance(checkpoint, Mapping):
        file, key = checkpoint.get('file'), checkpoint.get('key')
        known = ('file', 'key', '_delete_')  # the last is left where a config overrides nothing
        if not isinstance(key, (str, type(None))) or any(each not in known for each in checkpoint):
            file = None
    if not isinstance(file, (str, os.PathLike)):
        raise ValueError(
            f'{where}={checkpoint!r} must be a path, or dict(file=path) with the `key` of the '
            "weights in the file, such as key='state_dict_ema'."
        )
    path = KeyedPath(os.fspath(file))
    path.key = key
    return path


@dataclass(frozen=True)
class Weights:
    """Place of the weights in a checkpoint.

    Attributes:
        name: Name of the file, for messages.
        key: Place of the weights, or None for the usual places.
        own: Names of the module's weights: no prefix is taken off a file that has some of them.
        role: ``'teacher'`` or ``'student'``: which network to take of a file that holds both.
    """

    name: str
    key: str | None = None
    own: Collection[str] = ()
    role: str = STUDENT

    def find(self, content: Mapping[str, Any]) -> dict[str, Tensor]:
        """Take the weights out of a file's content.

        Raises:
            CheckpointError: There are none, or they are not finite.
        """
        state = self._state(content)
        if '_orig_mod.' not in ''.join(self.own):  # of torch.compile, also around parts
            state = {re.sub(r'(^|\.)_orig_mod\.', r'\1', key): v for key, v in state.items()}
        while not any(key in self.own for key in state):
            shorter = self._unwrapped(state)
            if shorter is None:
                break
            state = shorter
        self._check_finite(state)
        return state

    def _state(self, content: Mapping[str, Any]) -> dict[str, Tensor]:
        found: Any = content
        if self.key is not None:
            if self.key not in content:
                raise CheckpointError(
                    f'{self.name} holds nothing under key={self.key!r}, its keys are '
                    f'{_listed(content)}'
                )
            found = content[self.key]
        while isinstance(found, Mapping) and not _is_state(found):
            place = next((key for key in _PLACES if isinstance(found.get(key), _HOLDERS)), None)
            if place is None:
                break
            found = found[place]
        if isinstance(found, Inert):
            state = _state_of_network(found)
            if not state:
                raise CheckpointError(
                    f'{self.name} holds an object of {found.name}, whose code is not run: save its '
                    'state_dict() where it was made'
                )
            return state
        if not isinstance(found, Mapping) or not _is_state(found):
            holds = f'is a {type(found).__name__}'
            if isinstance(found, Mapping):
                others = {k: v for k, v in found.items() if not isinstance(v, Tensor)}
                some = 0 < len(others) < len(found)
                holds = f'has {"beside them " if some else ""}the keys {_listed(others)}'
            raise CheckpointError(
                f"{self.name} must hold tensors by name, at its top or under 'state_dict', "
                f"'model' or 'net', and {holds}: give a file of weights, or "
                'dict(file=.., key=..) where they are under another key'
            )
        return {
            key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for key, value in found.items()
        }

    def _unwrapped(self, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """The weights with one prefix less, None if there is none to take off."""
        for prefix in _WRAPPERS:
            named = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            if named and state.keys() <= {prefix + key for key in named} | _COUNTERS:
                return named
        order = [self.role, TEACHER if self.role == STUDENT else STUDENT]
        for prefix in (prefix for role in order for prefix in _ROLES[role]):
            named = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            if named:
                return named
        return None

    def _check_finite(self, state: Mapping[str, Tensor]) -> None:
        bad = [key for key, value in state.items() if not _is_finite(value)]
        if not bad:
            return
        value = state[bad[0]]
        kind = 'NaN' if value.isnan().any() else 'infinite values'
        others = f' and {len(bad) - 1} more' if len(bad) > 1 else ''
        raise CheckpointError(
            f'{self.name} holds {kind} in {bad[0]!r}{others}: its training diverged, take a file '
            'from before that'
        )


_HOLDERS = (Mapping, Inert)


def _is_state(value: Mapping) -> bool:
    return bool(value) and all(
        isinstance(key, str)
        and (isinstance(each, Tensor) or (isinstance(each, np.ndarray) and each.dtype.kind in 'fi'))
        for key, each in value.items()
    )


def _is_finite(value: Tensor) -> bool:
    if not value.is_floating_point():
        return True
    total = value.sum(dtype=torch.float32) if value.dtype.itemsize < 4 else value.sum()
    return bool(total.isfinite()) or bool(value.isfinite().all())  # a sum is read faster


def _listed(content: Mapping) -> str:
    keys = [repr(key) for key in content]
    return ', '.join(keys[:5]) + (', ..' if len(keys) > 5 else '') or 'none'


def _state_of_network(network: Inert, prefix: str = '') -> dict[str, Tensor]:
    """State dict of a module that was saved as an object."""
    parts = network.state if isinstance(network.state, Mapping) else {}
    hidden = parts.get('_non_persistent_buffers_set') or ()
    found = {}
    for name in ('_parameters', '_buffers'):
        for key, value in (parts.get(name) or {}).items():
            if isinstance(value, Tensor) and key not in hidden:
                found[prefix + key] = value.detach()
    for key, module in (parts.get('_modules') or {}).items():
        if isinstance(module, Inert):
            found |= _state_of_network(module, f'{prefix}{key}.')
    return found


def read_weights(
    checkpoint: Any, name: str, own: Collection[str] = (), role: str = STUDENT
) -> dict[str, Tensor]:
    """Read the weights of a file.

    Args:
        checkpoint: As for :func:`checkpoint_path`.
        name: Name of the file, for messages.
        own: Names of the module's weights, see :class:`Weights`.
        role: ``'teacher'`` or ``'student'``, see :class:`Weights`.

    Raises:
        FileNotFoundError: There is no such file.
        RuntimeError: The file cannot be read or holds no finite weights.
    """
    path = checkpoint_path(checkpoint)
    return Weights(name, path.key, own, role).find(load_file(path))


def load_file(path: str | os.PathLike, map_location: Any = 'cpu') -> dict:
    """Read a checkpoint; code inside the file is never run.

    Objects other than tensors, arrays and plain values come as ``Inert``, which does nothing.

    Args:
        path: A file written by ``torch.save`` or safetensors.
        map_location: Device of the tensors, as in ``torch.load``.

    Raises:
        FileNotFoundError: There is no such file.
        RuntimeError: The file is damaged, no checkpoint, or holds what runs programs.
    """
    path = Path(path).expanduser()
    name = f"checkpoint '{path}'"
    if path.is_dir():
        raise CheckpointError(f'{name} is a directory: give a file inside it')
    if not path.is_file():
        raise FileNotFoundError(f'{name} does not exist: check the path')
    with open(path, 'rb') as file:
        start = file.read(512)
    _check_kind(path, name, start)
    if _is_safetensors(path, start):
        return _load_safetensors(path, name, map_location)
    _check_sums(path, name)
    try:
        checkpoint = _load(path, map_location)
    except ProgramError as error:
        raise CheckpointError(
            f'{name} is refused because it holds {error}, which runs programs and belongs into no '
            'checkpoint: where it was made and is trusted, save only dict(meta=..., '
            'state_dict=...) of plain values and load that file'
        ) from None
    except Exception as error:
        raise CheckpointError(_unreadable(name, error)) from error
    if isinstance(checkpoint, Inert):
        checkpoint = dict(model=checkpoint)
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'{name} holds a {type(checkpoint).__name__}, expected a dict of tensors or a dict '
            "with the key 'state_dict'"
        )
    return checkpoint


def _unreadable(name: str, error: BaseException | str) -> str:
    reason = (str(error) or type(error).__name__).split('\n')[0].split('. ')[0]
    return (
        f'{name} cannot be read, it is truncated or not a file of torch.save ({reason}): copy or '
        'download it again, or resume from an older one'
    )


def _load(path: Path, map_location: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Detected pickle protocol')
        try:
            with open(path, 'rb') as file:
                return torch.load(file, map_location=map_location, weights_only=True)
        except Exception:  # it holds more than tensors and plain values, or is damaged
            return read_without_code(path, map_location)


def _check_kind(path: Path, name: str, start: bytes) -> None:
    """Raise if a file is of a known kind that is no checkpoint."""
    if not start:
        raise CheckpointError(
            f'{name} is empty, it is truncated or not a file of torch.save: copy or download it '
            'again'
        )
    kind: str | None = None
    text = start.lstrip().lower()
    if text.startswith((b'<!doctype', b'<html', b'<?xml')):
        kind = 'a web page: the download gave a page instead of the file, log in or take its link'
    elif start.startswith(b'version https://git-lfs'):
        kind = 'a pointer of Git LFS: fetch the file itself with `git lfs pull`'
    elif tarfile.is_tarfile(path):
        kind = 'a tar archive: unpack it and give the file inside'
    elif start[:2] == b'PK':
        kind = _kind_of_zip(path, name)
    elif len(start) > 8 and _is_text(start) and start[8:9] != b'{':
        kind = 'a text file, not a file of torch.save: give the file with the weights'
    if kind:
        raise CheckpointError(f'{name} is {kind}')


def _is_text(start: bytes) -> bool:
    return all(31 < byte < 127 or byte in b'\t\r\n' for byte in start)


def _kind_of_zip(path: Path, name: str) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [each.split('/')[-1] for each in archive.namelist()]
    except Exception as error:
        raise CheckpointError(_unreadable(name, error)) from None
    if 'constants.pkl' in names:
        return 'a program of TorchScript, which is not run: save the state_dict() of the network'
    if 'data.pkl' not in names:
        return 'a zip archive, not a file of torch.save: unpack it and give the file inside'
    return None


def _check_sums(path: Path, name: str) -> None:
    """Compare the check sums of a zipped file, which ``torch.load`` does not."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            # Files can be written without check sums: all are 0 there.
            checked = any(each.CRC for each in archive.infolist())
            damaged = archive.testzip() if checked else None
    except Exception as error:
        raise CheckpointError(_unreadable(name, error)) from error
    if damaged:
        raise CheckpointError(
            f'{name} is damaged, the check sum of its part {damaged!r} is wrong: copy or download '
            'it again, or resume from an older one'
        )


def _is_safetensors(path: Path, start: bytes) -> bool:
    length = int.from_bytes(start[:8], 'little')
    return (
        start[8:9] == b'{'
        and length < path.stat().st_size
        or (path.suffix == '.safetensors' and start[:2] != b'PK')
    )


def _load_safetensors(path: Path, name: str, map_location: Any) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file as load_safetensors
    except ImportError:
        raise CheckpointError(
            f'{name} is a file of safetensors, which is not installed: `pip install safetensors`'
        ) from None
    try:
        state = load_safetensors(str(path))
    except Exception as error:
        reason = (str(error) or type(error).__name__).split('\n')[0]
        raise CheckpointError(
            f'{name} cannot be read, it is truncated or not a file of safetensors ({reason}): copy '
            'or download it again'
        ) from error
    if isinstance(map_location, (str, torch.device)):
        state = {key: value.to(map_location) for key, value in state.items()}
    return state


def load_from_safe_file(filename: str, map_location: Any = None) -> dict:
    """Loader of local files for mmengine, see ``register_safe_loaders``."""
    return load_file(filename, map_location)


def load_from_safe_url(filename: str, map_location: Any = None) -> dict:
    """Loader of http(s) addresses for mmengine, see ``register_safe_loaders``."""
    from mmengine.dist import barrier, get_rank

    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    path = folder / Path(filename.split('?')[0]).name
    if get_rank() > 0:  # rank 0 downloads into torch's cache, the others read it there
        barrier()
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(filename, str(path), progress=False)
    if get_rank() == 0:
        barrier()
    return load_file(path, map_location)


def load_from_safe_name(filename: str, map_location: Any = None) -> dict:
    """Loader of ``torchvision://``, ``mmcls://`` and the like, see ``register_safe_loaders``."""
    from mmengine.runner import checkpoint as names

    scheme, _, name = filename.partition('://')
    tables = {
        'torchvision': names.get_torchvision_models,
        'modelzoo': names.get_torchvision_models,
        'mmcls': names.get_mmcls_models,
    }
    known = tables.get(scheme, names.get_external_models)()
    if scheme in ('open-mmlab', 'openmmlab'):
        name = names.get_deprecated_model_names().get(name, name)
    address = known.get(name)
    if address is None or '://' not in address:
        raise CheckpointError(f'{filename!r} is no known name of weights: give a file or address')
    checkpoint = load_from_safe_url(address, map_location)
    return names._process_mmcls_checkpoint(checkpoint) if scheme == 'mmcls' else checkpoint


def refuse_to_load(filename: str, map_location: Any = None) -> dict:
    """Loader of stores from which nothing is read safely, see ``register_safe_loaders``."""
    raise CheckpointError(f'{filename!r} is not read from there: download it and give the file')


def register_safe_loaders() -> None:
    """Let every loader of mmengine's Runner (resume, load_from, test) refuse code in files.

    mmengine leaves ``weights_only`` to torch's default, which was False before torch 2.6 and still
    is for downloads; a fork of it unpickles whatever that refuses.
    """
    from mmengine.runner import CheckpointLoader

    loaders = {
        '': load_from_safe_file,
        'http://': load_from_safe_url,
        'https://': load_from_safe_url,
        **dict.fromkeys(
            ('torchvision://', 'modelzoo://', 'open-mmlab://', 'openmmlab://', 'mmcls://'),
            load_from_safe_name,
        ),
    }
    for prefix in CheckpointLoader._schemes:
        loaders.setdefault(prefix, refuse_to_load)
    for prefix, loader in loaders.items():
        CheckpointLoader.register_scheme(prefixes=prefix, loader=loader, force=True)
