"""Arguments of configs that are filled in for the user."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mmkdfuse.registry import MODELS


def filled_in(
    where: str, options: Mapping[str, Any] | None, source: str, **values: Any
) -> dict[str, Any]:
    """Return options with values that a class sets itself.

    Args:
        where: Place of the options in a config, for the error.
        options: What a user set.
        source: What the values come from, for the error.
        **values: The values by option.

    Raises:
        ValueError: If the options set one of them to another value, which would be ignored.

    Example:
        >>> filled_in('head', dict(type='LinearClsHead'), 'num_classes', num_classes=10)
        {'type': 'LinearClsHead', 'num_classes': 10}
    """
    options = dict(options or {})
    for name, value in values.items():
        if options.setdefault(name, value) != value:
            raise ValueError(
                f'{where}.{name}={options[name]!r} would be ignored, because it comes from '
                f'{source}, expected {value!r} or nothing.'
            )
    return options


def completed(config: dict, **values: Any) -> dict:
    """Return the config of a module with values for those of its arguments that it lacks.

    Args:
        config: Config of any module.
        **values: Values by argument; left out where the module has no such argument.

    Example:
        >>> completed(dict(type='mmkdfuse.FinalConv', out_channels=8), in_channels=4, depth=18)
        {'in_channels': 4, 'type': 'mmkdfuse.FinalConv', 'out_channels': 8}
    """
    kind: Any = MODELS.get(config['type']) if isinstance(config['type'], str) else config['type']
    parameters = inspect.signature(kind.__init__).parameters if kind is not None else ()
    return {**{name: value for name, value in values.items() if name in parameters}, **config}
