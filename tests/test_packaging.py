"""What ends up in the archives, and that mim finds it there."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mmkdfuse.dependencies import DEPENDENCIES
from mmkdfuse.version import __version__

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    *('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'model-index.yml'),
    *('requirements.txt', 'requirements-dev.txt', 'mmkdfuse', 'configs', 'tools'),
)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of the tree: building leaves traces in it."""
    copy = tmp_path_factory.mktemp('source')
    ignored = shutil.ignore_patterns('__pycache__', '.mim')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        else:
            shutil.copyfile(ROOT / name, copy / name)
    return copy


def build(source, hook, target):
    """Runs one PEP 517 or 660 hook of the build back end, as pip does without isolation."""
    target.mkdir()
    code = f'from setuptools import build_meta; build_meta.{hook}({str(target)!r})'
    done = subprocess.run([sys.executable, '-c', code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = target.iterdir()
    return archive


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
    return build(source, 'build_wheel', tmp_path_factory.mktemp('wheel') / 'out')


def parsed_requirements():
    lines = (ROOT / 'requirements.txt').read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith('#')]
    return {requirement.name: requirement.specifier for requirement in found}


def files_for_mim():
    """Configs, tools and metafiles in the tree, as paths relative to it."""
    found = [path for top in ('configs', 'tools') for path in (ROOT / top).rglob('*.*')]
    names = {str(path.relative_to(ROOT)) for path in found if '__pycache__' not in path.parts}
    return {*names, 'model-index.yml'}


@pytest.mark.parametrize('dependency', DEPENDENCIES, ids=lambda d: d.names[0])
def test_check_offers_what_the_requirements_pin(dependency):
    offered = Requirement(dependency.install)
    assert offered.name in dependency.names
    assert parsed_requirements()[offered.name] == offered.specifier


@pytest.mark.parametrize('dependency', DEPENDENCIES, ids=lambda d: d.names[0])
def test_pins_satisfy_the_check(dependency):
    pinned = parsed_requirements()[Requirement(dependency.install).name]
    supported = SpecifierSet(dependency.supported)
    for bound in pinned:
        # An upper bound of the pin is itself excluded: it may equal that of the check.
        inside = supported.contains(bound.version)
        assert inside or (bound.operator == '<' and f'<{bound.version}' in str(supported))


def test_wheel_holds_everything_for_mim(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f'mmkdfuse/.mim/{name}' for name in files_for_mim()} <= names
    assert {'mmkdfuse/__init__.py', 'mmkdfuse/version.py'} <= names
    assert not [name for name in names if '__pycache__' in name]
    outside = {name.split('/')[0] for name in names}
    assert outside == {'mmkdfuse', f'mmkdfuse-{__version__}.dist-info'}


def test_wheel_has_every_module(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = (ROOT / 'mmkdfuse').rglob('*.py')
    expected = {p.relative_to(ROOT).as_posix() for p in modules if '.mim' not in p.parts}
    assert expected - names == set()


def test_wheel_never_replaces_an_installed_mmcv_or_torch(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(f'mmkdfuse-{__version__}.dist-info/METADATA').decode()
    required = {Requirement(r).name for r in re.findall(r'^Requires-Dist: (.*)$', metadata, re.M)}
    assert {'mmengine', 'mmpretrain', 'numpy', 'setuptools'} <= required
    assert not required & {'mmcv', 'mmcv-lite', 'mmcv-full', 'torch', 'torchvision'}
    (python,) = re.findall(r'^Requires-Python: (.*)$', metadata, re.M)
    assert [v for v in ('3.9', '3.10', '3.12', '3.13') if v in SpecifierSet(python)] == [
        '3.10',
        '3.12',
    ]


def test_sdist_builds_the_same_wheel(source, wheel, tmp_path):
    archive = build(source, 'build_sdist', tmp_path / 'sdist')
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / 'unpacked', filter='data')
    (unpacked,) = (tmp_path / 'unpacked').iterdir()
    assert not (unpacked / 'mmkdfuse' / '.mim').exists()
    again = build(unpacked, 'build_wheel', tmp_path / 'wheel')
    names = {n for n in zipfile.ZipFile(wheel).namelist() if 'dist-info' not in n}
    assert {n for n in zipfile.ZipFile(again).namelist() if 'dist-info' not in n} == names


def installed_path_for_mim(site):
    code = 'from mim.utils import get_installed_path; print(get_installed_path("mmkdfuse"))'
    # Warnings of pkg_resources about its own age go to stderr.
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=site,
        env={**os.environ, 'PYTHONPATH': str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(done.stdout.strip())


def test_mim_finds_a_plain_install(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    found = installed_path_for_mim(tmp_path)
    assert found == tmp_path / 'mmkdfuse'
    assert (found / '.mim' / 'tools' / 'dist_train.sh').is_file()


def test_mim_finds_an_editable_install_through_links(source, tmp_path):
    archive = build(source, 'build_editable', tmp_path / 'editable')
    site = tmp_path / 'site'
    zipfile.ZipFile(archive).extractall(site)
    found = installed_path_for_mim(site)
    assert found == source / 'mmkdfuse'
    for name in ('configs', 'tools', 'model-index.yml'):
        assert (found / '.mim' / name).resolve() == source / name


def test_build_after_an_editable_install_copies_files_not_links(source, tmp_path):
    build(source, 'build_editable', tmp_path / 'editable')
    wheel = build(source, 'build_wheel', tmp_path / 'wheel')
    zipfile.ZipFile(wheel).extractall(tmp_path / 'site')
    assert not (tmp_path / 'site' / 'mmkdfuse' / '.mim' / 'configs').is_symlink()
    assert (source / 'mmkdfuse' / '.mim' / 'configs').is_symlink()


def test_model_index_names_existing_configs_once():
    metafiles = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    found = set((ROOT / 'configs').rglob('metafile.yml'))
    assert {ROOT / path for path in metafiles} == found
    models = [m for f in metafiles for m in yaml.safe_load((ROOT / f).read_text())['Models']]
    names = [model['Name'] for model in models]
    assert len(set(names)) == len(names)
    missing = [model['Config'] for model in models if not (ROOT / model['Config']).is_file()]
    assert missing == []


def script(name, *arguments, **environment):
    return subprocess.run(
        ['bash', str(ROOT / 'tools' / name), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ('name', 'arguments'),
    [
        ('dist_train.sh', ()),
        ('dist_train.sh', ('config.py',)),
        ('dist_train.sh', ('config.py', 'four')),
        ('dist_train.sh', ('config.py', '0')),
        ('dist_test.sh', ('config.py', 'checkpoint.pth')),
        ('dist_test.sh', ('config.py', '4', 'checkpoint.pth')),
        ('slurm_train.sh', ('partition', 'job', 'config.py')),
    ],
)
def test_scripts_tell_how_they_are_called(name, arguments):
    done = script(name, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith('Usage: ') and len(done.stderr.splitlines()) == 1


def test_several_nodes_need_an_address():
    done = script('dist_train.sh', 'config.py', '2', NNODES='2', NODE_RANK='', MASTER_ADDR='')
    assert done.returncode == 2
    assert 'NNODES=2 needs NODE_RANK (0 to 1) and MASTER_ADDR' in done.stderr


@pytest.fixture
def stub_tools(tmp_path):
    """The scripts beside a train.py and a test.py that print what every process received."""
    folder = tmp_path / 'with blank' / 'tools'
    folder.mkdir(parents=True)
    for path in (ROOT / 'tools').glob('*.sh'):
        shutil.copy(path, folder)
    # One write, so that lines of two processes do not mix.
    code = (
        'import os, sys\n'
        'names = "RANK", "WORLD_SIZE", "PYTHONPATH"\n'
        'sys.stdout.write(repr([*sys.argv[1:], *(os.environ[n] for n in names)]) + "\\n")\n'
    )
    for name in ('train.py', 'test.py'):
        (folder / name).write_text(code)
    return folder


@pytest.mark.parametrize(
    ('name', 'first', 'received'),
    [
        ('dist_train.sh', ('a b.py', '2'), ['a b.py']),
        ('dist_test.sh', ('a b.py', 'c d.pth', '2'), ['a b.py', 'c d.pth']),
    ],
)
def test_two_processes_receive_the_arguments_unchanged(stub_tools, name, first, received):
    done = subprocess.run(
        ['bash', str(stub_tools / name), *first, '--cfg-options', 'x="1 2"'],
        env={**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': ''},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    repository = str(stub_tools.parent)
    received = [*received, '--launcher', 'pytorch', '--cfg-options', 'x="1 2"']
    expected = [repr([*received, str(rank), '2', repository]) for rank in (0, 1)]
    assert sorted(done.stdout.splitlines()) == expected
