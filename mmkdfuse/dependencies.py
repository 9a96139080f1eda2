"""Check of the installed versions by their metadata, before anything heavy is imported."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import warnings
from collections.abc import Callable
from typing import NamedTuple

PYTHON_SUPPORTED = ((3, 10), (3, 12))
CHECK_VARIABLE = 'MMKDFUSE_DEPENDENCY_CHECK'

VersionLookup = Callable[[str], 'str | None']
RequiresLookup = Callable[[str], 'list[str]']


class Dependency(NamedTuple):
    """One package that has to be installed.

    Attributes:
        names: Distribution names; any one of them provides the module.
        supported: The versions known to work, as a version specifier.
        install: The requirement for pip when nothing suitable is installed.
    """

    names: tuple[str, ...]
    supported: str
    install: str


class Problem(NamedTuple):
    """A dependency that is missing or outside its supported range.

    Attributes:
        text: The needed and the installed version.
        install: Requirements that repair it.
        remove: Distributions that have to go first.
    """

    text: str
    install: tuple[str, ...]
    remove: tuple[str, ...] = ()


DEPENDENCIES = (
    # Before 2.6 `torch.load` unpickles whatever a file holds unless told otherwise; loading files
    # from others safely relies on the default that changed there.
    Dependency(('torch',), '>=2.6', 'torch==2.14.1'),
    Dependency(('torchvision',), '>=0.21', 'torchvision==0.29.1'),
    Dependency(('numpy',), '>=1.23,<2.5', 'numpy>=1.23,<2.5'),
    # mmengine 0.10 imports pkg_resources, which setuptools 82 removed.
    Dependency(('setuptools',), '<82', 'setuptools>=77.0.3,<80'),
    Dependency(('mmengine',), '>=0.10.7,<0.12', 'mmengine==0.10.7'),
    # Both distributions provide the module `mmcv`; classification needs none of the compiled
    # operators that only the full one has.
    Dependency(('mmcv-lite', 'mmcv'), '>=2.1,<2.3', 'mmcv-lite==2.2.0'),
    Dependency(('mmpretrain',), '>=1.2,<1.3', 'mmpretrain==1.2.0'),
)

# torch and torchvision fit only in matching pairs, so that a repair always names both.
_TORCH_PAIR = tuple(d.install for d in DEPENDENCIES if d.names[0] in ('torch', 'torchvision'))


def check_dependencies() -> None:
    """Raises one error for all missing or unsuitable versions.

    With the environment variable ``MMKDFUSE_DEPENDENCY_CHECK=warn`` the same sentence comes as a
    warning, for trying versions that nobody tested.

    Raises:
        ImportError: If Python or a dependency is missing or has an unsupported version.
    """
    message = _python_message() or _message(find_problems())
    if not message:
        return
    if os.environ.get(CHECK_VARIABLE) == 'warn':
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    else:
        raise ImportError(message)


def find_problems(
    installed_version: VersionLookup | None = None,
    requires: RequiresLookup | None = None,
) -> list[Problem]:
    """Compares the installed versions with `DEPENDENCIES`.

    Args:
        installed_version: Version of a distribution, None where it is not installed.
        requires: Requirements that a distribution declares.

    Returns:
        One entry per missing or unsupported dependency, in the order of `DEPENDENCIES`.
    """
    installed_version = installed_version or _installed_version
    requires = requires or _declared_requirements
    try:
        import packaging.specifiers  # noqa: F401
    except ImportError:
        return [Problem('packaging (not installed)', ('packaging',))]

    problems = []
    for dependency in DEPENDENCIES:
        problem = _check_one(dependency, installed_version)
        if problem is not None:
            problems.append(problem)
    if not any(p.install == _TORCH_PAIR for p in problems):
        problem = _check_torch_pair(installed_version, requires)
        if problem is not None:
            problems.insert(0, problem)
    return problems


def _check_one(dependency: Dependency, installed_version: VersionLookup) -> Problem | None:
    found = {name: installed_version(name) for name in dependency.names}
    found = {name: version for name, version in found.items() if version is not None}
    unsuitable = {n: v for n, v in found.items() if not _supported(v, dependency.supported)}
    if found and not unsuitable:
        return None
    needed = ' or '.join(f'{name}{dependency.supported}' for name in dependency.names)
    there = ', '.join(f'{name} {version} is installed' for name, version in unsuitable.items())
    is_torch = dependency.install in _TORCH_PAIR
    return Problem(
        f'{needed} ({there or "not installed"})',
        _TORCH_PAIR if is_torch else (dependency.install,),
        # Two distributions that share one module folder overwrite each other's files.
        remove=tuple(unsuitable) if len(dependency.names) > 1 else (),
    )


def _check_torch_pair(installed_version: VersionLookup, requires: RequiresLookup) -> Problem | None:
    """Checks the torch version that the installed torchvision was built against."""
    from packaging.requirements import InvalidRequirement, Requirement

    torch = installed_version('torch')
    for text in requires('torchvision'):
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.name != 'torch' or torch is None:
            continue
        if not requirement.specifier.contains(torch, prereleases=True):
            return Problem(
                f'torch{requirement.specifier} for the installed torchvision '
                f'{installed_version("torchvision")} (torch {torch} is installed)',
                _TORCH_PAIR,
            )
    return None


def _supported(version: str | None, specifier: str) -> bool:
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        # Vendors label builds such as 2.6.0a0+abc; their release number is what counts here.
        release = Version(version or '').base_version
    except InvalidVersion:
        return False
    return SpecifierSet(specifier).contains(release)


def _message(problems: list[Problem]) -> str:
    if not problems:
        return ''
    needed = '; '.join(p.text for p in problems)
    # dict.fromkeys: each requirement once, in the order in which they were found.
    install = dict.fromkeys(r for p in problems for r in p.install)
    remove = [name for p in problems for name in p.remove]
    command = 'pip install ' + ' '.join(f'"{r}"' if '<' in r else r for r in install)
    if remove:
        command = f'pip uninstall -y {" ".join(remove)} && {command}'
    return f'mmkdfuse needs {needed}: run `{command}`.'


def _python_message() -> str:
    first, last = PYTHON_SUPPORTED
    if first <= sys.version_info[:2] <= last:
        return ''
    return (
        f'mmkdfuse needs Python {first[0]}.{first[1]} to {last[0]}.{last[1]} (this is '
        f'{sys.version_info[0]}.{sys.version_info[1]}): create a virtual environment with one of '
        'them.'
    )


def _installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _declared_requirements(name: str) -> list[str]:
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
