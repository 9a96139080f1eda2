"""Keywords that a constructor really takes, read from its source without calling it."""

import ast
import inspect
import textwrap
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass
class Keywords:
    """The keywords of a callable.

    Attributes:
        defaults: Every keyword with its default, ``inspect.Parameter.empty`` where it has none.
        annotations: Annotations of those that have one.
        owners: Module of the function that declares each.
        accepts_any: True if a ``**kwargs`` goes where the source does not tell.
    """

    defaults: dict[str, Any] = field(default_factory=dict)
    annotations: dict[str, Any] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    accepts_any: bool = False

    @property
    def required(self) -> list[str]:
        """Keywords without default."""
        return [n for n, default in self.defaults.items() if default is inspect.Parameter.empty]


def keywords_of(target: Callable) -> Keywords:
    """Collect the keywords of a class or function.

    ``**kwargs`` of a constructor is followed to the constructors above it in the method resolution
    order as long as the source hands it to ``super().__init__(**kwargs)``.
    """
    if not inspect.isclass(target):
        return _keywords_of_chain([target], bound=True)
    if target.__new__ is not object.__new__ and '__init__' not in vars(target):
        return Keywords(accepts_any=True)
    # The roots take *args and **kwargs only to refuse them.
    chain = [vars(c)['__init__'] for c in target.__mro__ if '__init__' in vars(c)]
    return _keywords_of_chain([i for i in chain if i not in (object.__init__, nn.Module.__init__)])


def _keywords_of_chain(functions: list[Callable], bound: bool = False) -> Keywords:
    found = Keywords()
    given: set[str] = set()
    positional = 0
    for function in functions:
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            found.accepts_any = True
            return found
        parameters = parameters if bound else parameters[1:]
        # A keyword that a subclass fills in itself is not the user's any more.
        given |= {p.name for p in parameters[:positional]}
        hints = _annotations_of(function)
        for parameter in parameters:
            name = parameter.name
            if parameter.kind in _VARIADIC or name in given or name in found.defaults:
                continue
            found.defaults[name] = parameter.default
            found.owners[name] = getattr(function, '__module__', None) or ''
            if name in hints:
                found.annotations[name] = hints[name]
        rest = next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD), None)
        if rest is None:
            return found
        use = _KeywordUse(rest).read(function)
        for name in use.taken:
            found.defaults.setdefault(name, None)
        if use.escapes or not use.forwarded:
            found.accepts_any = True
            return found
        given |= use.explicit
        positional = use.positional
    return found


def _annotations_of(function: Callable) -> dict[str, Any]:
    """Annotations of a function's parameters, without those that cannot be resolved."""
    function = inspect.unwrap(function)
    found: dict[str, Any] = {}
    for name, annotation in getattr(function, '__annotations__', {}).items():
        one = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            names = getattr(function, '__globals__', None)
            found |= typing.get_type_hints(one, names, include_extras=True)
        except Exception:  # a name that is imported for type checkers only
            continue
    return found


class _KeywordUse(ast.NodeVisitor):
    """Use of ``**kwargs`` in the body of a constructor.

    Attributes:
        forwarded: True if ``super().__init__`` gets them.
        explicit: Keywords that the call to ``super().__init__`` sets itself.
        positional: Number of positional arguments of that call.
        taken: Names the body takes out, ``kwargs.pop('name')``.
        escapes: True if they go anywhere else.
    """

    def __init__(self, name: str):
        self.name = name
        self.forwarded = False
        self.explicit: set[str] = set()
        self.positional = 0
        self.taken: set[str] = set()
        self.escapes = False

    def read(self, function: Callable) -> '_KeywordUse':
        try:
            source = inspect.getsource(inspect.unwrap(function))
            self.visit(ast.parse(textwrap.dedent(source)))
        except (OSError, TypeError, SyntaxError):
            self.escapes = True
        return self

    def visit_Call(self, node: ast.Call) -> None:
        """Recognise ``super().__init__(.., **kwargs)`` and ``kwargs.pop('name', ..)``."""
        function = node.func
        if not isinstance(function, ast.Attribute):
            return self.generic_visit(node)
        starred = [k for k in node.keywords if k.arg is None and self._is_kwargs(k.value)]
        if starred and function.attr == '__init__' and _is_super(function.value):
            self.forwarded = True
            self.explicit = {k.arg for k in node.keywords if k.arg is not None}
            plain = [isinstance(argument, ast.Starred) for argument in node.args]
            self.positional = plain.index(True) if True in plain else len(plain)
            children = [*node.args, *(k.value for k in node.keywords if k not in starred)]
        elif self._is_kwargs(function.value) and function.attr in ('pop', 'get', 'setdefault'):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and function.attr != 'setdefault':
                self.taken.add(str(first.value))
            children = node.args[1:]
        elif self._is_kwargs(function.value) and function.attr == 'update':
            children = node.args
        else:
            return self.generic_visit(node)
        for child in children:
            self.visit(child)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """Recognise ``kwargs['name']``."""
        if not self._is_kwargs(node.value):
            self.generic_visit(node)
        elif isinstance(node.slice, ast.Constant) and isinstance(node.ctx, ast.Load):
            self.taken.add(str(node.slice.value))

    def visit_Compare(self, node: ast.Compare) -> None:
        """Let ``'name' in kwargs`` pass."""
        for child in (node.left, *node.comparators):
            if not self._is_kwargs(child):
                self.visit(child)

    def visit_Name(self, node: ast.Name) -> None:
        """Notice every other use."""
        self.escapes |= node.id == self.name

    def _is_kwargs(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id == self.name


def _is_super(node: ast.AST) -> bool:
    function = node.func if isinstance(node, ast.Call) else None
    return isinstance(function, ast.Name) and function.id == 'super'
