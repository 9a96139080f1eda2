"""Pickles read without running code: what is no tensor or plain value becomes an inert record."""

from __future__ import annotations

import _compat_pickle
import pickle
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import _utils as rebuild

PACKED = '__packed__'
_PythonUnpickler: Any = pickle._Unpickler
# Names whose presence in a checkpoint has no other purpose than to run a program.
_PROGRAMS = re.compile(
    r'(os|posix|nt|sys|subprocess|_posixsubprocess|pty|runpy|importlib|imp|ctypes|socket|shutil|'
    r'webbrowser|code|codeop|pdb|bdb|timeit|profile|cProfile|marshal|multiprocessing|commands|'
    r'requests|urllib|http|pip|torch\.hub)\..*|'
    r'builtins\.(exec|eval|compile|execfile|open|__import__|input|breakpoint|globals|vars)|'
    r'types\.(FunctionType|CodeType)'
)


class Inert:
    """Record of an object that was not made, of a class or function that was not looked up.

    Attributes:
        name: Full name of the class or function.
        args: What it was called with.
        state: What the object was filled with.
        entries: Pairs that were put into it.
        items: Values that were added to it.

    Example:
        >>> Inert('argparse.Namespace')
        <argparse.Namespace, not loaded>
    """

    def __init__(self, name: str, args: tuple = ()) -> None:
        self.name = name
        self.args = args
        self.state: Any = None
        self.entries: dict = {}
        self.items: list = []

    def __repr__(self) -> str:
        return f'<{self.name}, not loaded>'


# Classes that hold what a dict does.
_MAPPINGS = re.compile('([Dd]ict|CfgNode)$')


class ProgramError(pickle.UnpicklingError):
    """A pickle names what runs programs."""


def _encode(text: str, _: str = '') -> bytes:
    return text.encode('latin1')


def _tensor_with_attributes(make: Callable, kind: Any, args: tuple, state: Any) -> Any:
    """A tensor of a subclass as a plain one."""
    if not _may_call(make):
        raise pickle.UnpicklingError('a tensor is made by an unknown function')
    return make(*args)


def _parameter(data: Any, requires_grad: Any, hooks: Any, state: Any) -> Any:
    """A parameter with attributes as a plain one."""
    return rebuild._rebuild_parameter(data, requires_grad, hooks)


# Everything that may be called. None of it reads names or code out of its arguments.
_CALLED: dict[str, Callable] = {
    'collections.OrderedDict': OrderedDict,
    'collections.Counter': Counter,
    'builtins.set': set,
    'builtins.frozenset': frozenset,
    'builtins.complex': complex,
    'builtins.bytearray': bytearray,
    '_codecs.encode': _encode,
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    'torch.serialization._get_layout': torch.serialization._get_layout,
    'torch._utils._rebuild_tensor': rebuild._rebuild_tensor,
    'torch._utils._rebuild_tensor_v2': rebuild._rebuild_tensor_v2,
    'torch._utils._rebuild_tensor_v3': rebuild._rebuild_tensor_v3,
    'torch._utils._rebuild_parameter': rebuild._rebuild_parameter,
    'torch._utils._rebuild_parameter_with_state': _parameter,
    'torch.nn.parameter.Parameter': torch.nn.Parameter,
    'torch._tensor._rebuild_from_type_v2': _tensor_with_attributes,
}


def _may_call(function: Any) -> bool:
    return any(function is each for each in _CALLED.values())


class _Unpickler(_PythonUnpickler):
    """Reader of one pickle that calls and fills nothing but tensors, plain values and records.

    It is Python's own, in Python, with every instruction replaced that calls or changes an object.
    """

    dispatch: dict[int, Any] = dict(_PythonUnpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        if self.proto < 3:
            if (module, name) in _compat_pickle.NAME_MAPPING:
                module, name = _compat_pickle.NAME_MAPPING[module, name]
            module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        full = f'{module}.{name}'
        if full in _CALLED:
            return _CALLED[full]
        if module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if full == 'torch.storage.UntypedStorage':
            return torch.UntypedStorage  # compared, not called
        if _PROGRAMS.fullmatch(full):
            raise ProgramError(full)
        return Inert(full)

    def _call(self, function: Any, args: Any, keywords: dict | None = None) -> Any:
        if isinstance(function, Inert):
            if function.name == 'copyreg._reconstructor' and args and isinstance(args[0], Inert):
                return Inert(args[0].name, args[1:])
            return Inert(function.name, args)
        if keywords or not isinstance(args, tuple) or not _may_call(function):
            raise pickle.UnpicklingError(f'a {type(function).__name__} is called')
        return function(*args)

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self) -> None:
        keywords = self.stack.pop()
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args, keywords)

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def load_inst(self) -> None:
        module, name = (self.readline()[:-1].decode('ascii') for _ in range(2))
        self.stack, args = self._marked()
        self.append(self._call(self.find_class(module, name), args))

    dispatch[pickle.INST[0]] = load_inst

    def load_obj(self) -> None:
        self.stack, args = self._marked()
        self.append(self._call(args[0], args[1:]))

    dispatch[pickle.OBJ[0]] = load_obj

    def _marked(self) -> tuple[list, tuple]:
        items = self.pop_mark()
        return self.stack, tuple(items)

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Inert):
            target.state = state
        # What was stored beside a tensor or dict, such as hooks or versions, is left out.

    dispatch[pickle.BUILD[0]] = load_build

    def load_append(self) -> None:
        value = self.stack.pop()
        self._add(self.stack[-1], [value])

    dispatch[pickle.APPEND[0]] = load_append

    def load_appends(self) -> None:
        values = self.pop_mark()
        self._add(self.stack[-1], values)

    dispatch[pickle.APPENDS[0]] = load_appends

    def load_additems(self) -> None:
        values = self.pop_mark()
        self._add(self.stack[-1], values)

    dispatch[pickle.ADDITEMS[0]] = load_additems

    @staticmethod
    def _add(target: Any, values: list) -> None:
        if isinstance(target, Inert):
            target.items += values
        elif type(target) is list:
            target.extend(values)
        elif type(target) is set:
            target.update(values)
        else:
            raise pickle.UnpicklingError(f'values are added to a {type(target).__name__}')

    def load_setitem(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self._set(self.stack[-1], [key, value])

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        values = self.pop_mark()
        self._set(self.stack[-1], values)

    dispatch[pickle.SETITEMS[0]] = load_setitems

    @staticmethod
    def _set(target: Any, values: list) -> None:
        if isinstance(target, Inert):
            target = target.entries
        if type(target) not in (dict, OrderedDict, Counter):
            raise pickle.UnpicklingError(f'values are set in a {type(target).__name__}')
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[key] = value

    def load_persid(self) -> None:
        raise pickle.UnpicklingError('a tensor is stored under an unknown kind of name')

    dispatch[pickle.PERSID[0]] = load_persid

    def load_binpersid(self) -> None:
        where = self.stack.pop()
        if isinstance(where, tuple) and len(where) > 1 and where[0] == 'module':
            self.append(where[1])  # a class, with its code beside it
            return
        if not isinstance(where, tuple) or not where or where[0] != 'storage':
            raise pickle.UnpicklingError('something else than a tensor is stored beside the pickle')
        self.append(self.persistent_load(where))

    dispatch[pickle.BINPERSID[0]] = load_binpersid

    def load_extension(self) -> None:
        raise pickle.UnpicklingError('registered extensions are not looked up')

    for code in (pickle.EXT1, pickle.EXT2, pickle.EXT4):
        dispatch[code[0]] = load_extension


class _Plain:
    """Records of numpy's and mmengine's values as these values, wherever they stand."""

    def __init__(self) -> None:
        self.done: dict[int, tuple[Any, Any]] = {}  # with the original, which keeps its id

    def convert(self, value: Any) -> Any:
        """Return the value with everything inside it converted, containers in place."""
        if not isinstance(value, (dict, list, tuple, Inert)) or isinstance(value, torch.Size):
            return value
        if id(value) not in self.done:
            self.done[id(value)] = value, value  # containers may hold themselves
            self.done[id(value)] = value, self._converted(value)
        return self.done[id(value)][1]

    def _converted(self, value: Any) -> Any:
        if isinstance(value, dict):
            for key in value:
                value[key] = self.convert(value[key])
            return value
        if isinstance(value, list):
            value[:] = [self.convert(each) for each in value]
            return value
        if isinstance(value, tuple):
            return tuple(self.convert(each) for each in value)
        for name in ('args', 'state', 'entries', 'items'):
            setattr(value, name, self.convert(getattr(value, name)))
        return _known_value(value)


def _known_value(record: Inert) -> Any:
    module, _, name = record.name.rpartition('.')
    if module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        if name == 'scalar' and len(record.args) == 2:
            found = _array(record.args[1], record.args[0], ())
            return record if found is None else found.item()
        if name == '_reconstruct' and isinstance(record.state, tuple) and len(record.state) == 5:
            _, shape, dtype, is_fortran, data = record.state
            found = _array(data, dtype, shape, is_fortran)
            return record if found is None else found
    if name == '_frombuffer' and module.startswith('numpy.') and len(record.args) == 4:
        data, dtype, shape, order = record.args
        found = _array(data, dtype, shape, order == 'F')
        return record if found is None else found
    if name == 'HistoryBuffer' and isinstance(record.state, Mapping):
        logs, counts = (record.state.get(f'_{key}_history') for key in ('log', 'count'))
        if isinstance(logs, np.ndarray) and isinstance(counts, np.ndarray):
            return {
                PACKED: 'HistoryBuffer',
                'logs': torch.from_numpy(logs),
                'counts': torch.from_numpy(counts),
                'max_length': record.state.get('max_length', 1000000),
            }
    if module.partition('.')[0] == 'pathlib' and all(isinstance(each, str) for each in record.args):
        return str(Path(*record.args))
    if len(record.args) == 1 and isinstance(record.args[0], dict) and _MAPPINGS.search(name):
        return {**record.args[0], **record.entries}
    if record.entries or _MAPPINGS.search(name):
        return record.entries
    return record.items or record


def _array(data: Any, dtype: Any, shape: Any, is_fortran: Any = False) -> np.ndarray | None:
    """An array of plain numbers or texts, None where it is something else."""
    if not (isinstance(dtype, Inert) and dtype.name == 'numpy.dtype' and dtype.args):
        return None
    code = dtype.args[0]
    order = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 else '='
    if not isinstance(shape, tuple) or order not in ('<', '>', '|', '='):
        return None
    if code in ('O', 'O8') and isinstance(data, list):
        array = np.empty(len(data), dtype=object)
        array[:] = data
    elif isinstance(code, str) and re.fullmatch('[biufcSU][0-9]{1,6}', code):
        if not isinstance(data, (bytes, bytearray)):
            return None
        array = np.frombuffer(bytes(data), np.dtype(order + code))
        array = array.astype(array.dtype.newbyteorder('='))
    else:
        return None
    return array.reshape(shape, order='F' if is_fortran else 'C')


def read_without_code(path: Path, map_location: Any) -> Any:
    """Read a file of ``torch.save`` that holds other objects than tensors and plain values.

    Arrays and numbers of numpy and mmengine's histories come back as plain values, other objects as
    :class:`Inert`.

    Raises:
        ProgramError: The file is or names what runs programs.
    """

    def load(file: Any, **options: Any) -> Any:
        return _Unpickler(file, **options).load()

    with open(path, 'rb') as file:
        is_zipped = file.read(2) == b'PK'
    # `torch.load` would start a program of TorchScript; its own eyes see the same parts as it does.
    if is_zipped and 'constants.pkl' in torch._C.PyTorchFileReader(str(path)).get_all_records():
        raise ProgramError('constants.pkl')
    reader: Any = SimpleNamespace(Unpickler=_Unpickler, load=load, __name__='inert_pickle')
    with open(path, 'rb') as file:
        content = torch.load(
            file, map_location=map_location, pickle_module=reader, weights_only=False
        )
    return _Plain().convert(content)
