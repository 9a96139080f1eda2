"""Knowledge-fusion mutual self-distillation and multibranch feature alignment for mmpretrain.

Importing the package checks the installed versions and nothing else: torch and the OpenMMLab
packages are imported by the part that is used first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmkdfuse.dependencies import check_dependencies
from mmkdfuse.version import __version__

check_dependencies()

if TYPE_CHECKING:
    from mmkdfuse.engine.launch import load, test, train

__all__ = ['__version__', 'load', 'test', 'train']

_LAZY = {'load', 'test', 'train'}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from mmkdfuse.engine import launch

        return getattr(launch, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted(set(globals()) | _LAZY)
