"""The version check against faked package metadata."""

import subprocess
import sys
import warnings

import pytest

import mmkdfuse
from mmkdfuse import dependencies
from mmkdfuse.dependencies import check_dependencies, find_problems

GOOD = {
    'torch': '2.14.1',
    'torchvision': '0.29.1',
    'numpy': '2.4.6',
    'setuptools': '79.0.1',
    'mmengine': '0.10.7',
    'mmcv-lite': '2.2.0',
    'mmpretrain': '1.2.0',
}


@pytest.fixture
def fake(monkeypatch):
    """Replaces the installed versions: `fake(torch=None)` takes one away."""

    def install(torchvision_requires=('numpy', 'torch==2.14.1'), **changes):
        versions = {**GOOD, **{name.replace('_', '-'): v for name, v in changes.items()}}
        monkeypatch.setattr(dependencies, '_installed_version', versions.get)
        monkeypatch.setattr(
            dependencies, '_declared_requirements', lambda name: list(torchvision_requires)
        )

    return install


def error_of():
    with pytest.raises(ImportError) as caught:
        check_dependencies()
    return str(caught.value)


def test_tested_versions_pass(fake):
    fake()
    assert find_problems() == []
    check_dependencies()


@pytest.mark.parametrize('name', sorted(GOOD))
def test_missing_package_is_named_with_the_command(fake, name):
    fake(**{name.replace('-', '_'): None})
    message = error_of()
    assert f'{name}>=' in message or f'{name}<' in message
    assert 'not installed' in message
    command = message[message.index('`pip install ') :]
    assert f' {name}==' in command or f'"{name}>=' in command
    assert '\n' not in message


@pytest.mark.parametrize(
    ('name', 'version'),
    [
        ('torch', '2.5.1'),
        ('torchvision', '0.20.1'),
        ('numpy', '1.22.4'),
        ('numpy', '2.5.0'),
        ('setuptools', '82.0.0'),
        ('mmengine', '0.9.1'),
        ('mmengine', '1.0.0'),
        ('mmcv-lite', '1.7.2'),
        ('mmcv-lite', '2.3.0'),
        ('mmpretrain', '1.1.1'),
        ('mmpretrain', 'unknown'),
    ],
)
def test_unsupported_version_is_named(fake, name, version):
    fake(torchvision_requires=(), **{name.replace('-', '_'): version})
    assert f'{name} {version} is installed' in error_of()


@pytest.mark.parametrize(
    ('name', 'version'),
    [
        ('torch', '2.6.0'),
        ('torch', '2.6.0a0+ecf3bae40a.nv25.1'),
        ('torch', '2.7.1+cu128'),
        ('numpy', '1.26.4'),
        ('setuptools', '81.0.0'),
        ('mmengine', '0.11.0rc3'),
        ('mmcv-lite', '2.1.0'),
    ],
)
def test_supported_version_passes(fake, name, version):
    fake(torchvision_requires=(), **{name.replace('-', '_'): version})
    assert find_problems() == []


def test_full_mmcv_replaces_mmcv_lite(fake):
    fake(mmcv_lite=None, mmcv='2.1.0')
    assert find_problems() == []


def test_unsuitable_mmcv_has_to_go_first(fake):
    fake(mmcv_lite=None, mmcv='1.7.2')
    message = error_of()
    assert 'mmcv-lite>=2.1,<2.3 or mmcv>=2.1,<2.3 (mmcv 1.7.2 is installed)' in message
    assert '`pip uninstall -y mmcv && pip install mmcv-lite==2.2.0`' in message


def test_one_unsuitable_of_two_mmcv_is_an_error(fake):
    fake(mmcv='1.7.2')
    assert 'pip uninstall -y mmcv &&' in error_of()


def test_torchvision_of_another_torch(fake):
    fake(torch='2.13.0')
    message = error_of()
    assert 'torch==2.14.1 for the installed torchvision 0.29.1 (torch 2.13.0' in message
    assert '`pip install torch==2.14.1 torchvision==0.29.1`' in message


def test_local_build_of_the_same_torch_fits(fake):
    fake(torch='2.14.1+cu130')
    assert find_problems() == []


def test_all_problems_come_in_one_sentence(fake):
    fake(torch=None, mmengine='0.9.1', mmcv_lite=None, mmpretrain=None)
    assert error_of() == (
        'mmkdfuse needs torch>=2.6 (not installed); mmengine>=0.10.7,<0.12 (mmengine 0.9.1 is '
        'installed); mmcv-lite>=2.1,<2.3 or mmcv>=2.1,<2.3 (not installed); mmpretrain>=1.2,<1.3 '
        '(not installed): run `pip install torch==2.14.1 torchvision==0.29.1 mmengine==0.10.7 '
        'mmcv-lite==2.2.0 mmpretrain==1.2.0`.'
    )


def test_requirements_with_angle_brackets_are_quoted_for_the_shell(fake):
    fake(numpy='2.5.0')
    assert 'pip install "numpy>=1.23,<2.5"`' in error_of()


def test_missing_packaging_is_an_error_too(monkeypatch):
    monkeypatch.setitem(sys.modules, 'packaging.specifiers', None)
    assert 'packaging (not installed): run `pip install packaging`' in error_of()


def test_unsupported_python(monkeypatch):
    monkeypatch.setattr(dependencies, 'PYTHON_SUPPORTED', ((3, 8), (3, 9)))
    assert 'mmkdfuse needs Python 3.8 to 3.9 (this is 3.' in error_of()


def test_variable_turns_the_error_into_a_warning(fake, monkeypatch):
    fake(torch=None)
    monkeypatch.setenv('MMKDFUSE_DEPENDENCY_CHECK', 'warn')
    with pytest.warns(RuntimeWarning, match='mmkdfuse needs torch'):
        check_dependencies()
    fake()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check_dependencies()


def test_import_is_light():
    heavy = ('torch', 'numpy', 'mmengine', 'mmcv', 'mmpretrain', 'pkg_resources')
    code = f'import sys, mmkdfuse; print([m for m in {heavy} if m in sys.modules])'
    shown = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    ).stdout
    assert shown.strip() == '[]'


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="'mmkdfuse' has no attribute 'trian'"):
        _ = mmkdfuse.trian
    assert {'train', 'test', 'load', '__version__'} <= set(dir(mmkdfuse))
