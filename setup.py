"""Packaging of mmkdfuse, and the files that `mim` looks for inside the installed package.

`mim train mmkdfuse CONFIG` reads `<package>/.mim/{model-index.yml, configs, tools}`. A plain
install copies them there at build time; an editable install links them, so that edits are seen at
once.
"""

import os
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.develop import develop
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent
PACKAGE = 'mmkdfuse'
MIM_FILES = ('model-index.yml', 'configs', 'tools')


def read_version() -> str:
    """Reads the version without importing the package, whose dependencies may be missing."""
    scope: dict = {}
    exec((ROOT / PACKAGE / 'version.py').read_text(encoding='utf-8'), scope)
    return scope['__version__']


def copy_mim_files(target: Path) -> None:
    """Copies what mim needs to `target`, replacing what an earlier build left there."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in MIM_FILES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns('__pycache__', '*.pyc')
            shutil.copytree(ROOT / name, target / name, ignore=ignored)
        else:
            shutil.copyfile(ROOT / name, target / name)


def link_mim_files() -> None:
    """Links what mim needs into the source tree."""
    target = ROOT / PACKAGE / '.mim'
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    try:
        for name in MIM_FILES:
            (target / name).symlink_to(os.path.relpath(ROOT / name, target))
    except OSError:
        # Windows allows symbolic links to administrators only.
        copy_mim_files(target)


class BuildPy(build_py):
    """Adds the files for mim to the built package, not to the source tree."""

    def run(self):
        """Builds the package."""
        super().run()
        if not self.editable_mode:
            copy_mim_files(Path(self.build_lib) / PACKAGE / '.mim')


class Develop(develop):
    """The editable install of pip without PEP 660."""

    def run(self):
        """Installs the package."""
        link_mim_files()
        super().run()


class EditableWheel(editable_wheel):
    """The editable install of PEP 660, made visible to mim.

    mim joins the folder of the dist-info (site-packages) with the first line of top_level.txt. In
    an editable install the package lies elsewhere, hence an absolute path there; the plain name
    follows for all other readers.
    """

    def run(self):
        """Builds the editable wheel."""
        link_mim_files()
        self._ensure_dist_info()
        top_level = Path(self.dist_info_dir) / 'top_level.txt'
        top_level.write_text(f'{ROOT / PACKAGE}\n{PACKAGE}\n', encoding='utf-8')
        super().run()


if __name__ == '__main__':
    setup(
        name=PACKAGE,
        version=read_version(),
        description='Knowledge-fusion mutual self-distillation and multibranch feature alignment '
        'for mmpretrain',
        long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
        long_description_content_type='text/markdown',
        keywords='computer vision, image classification, knowledge distillation, OpenMMLab',
        license='Apache-2.0',
        license_files=['LICENSE'],
        classifiers=[
            'Development Status :: 4 - Beta',
            'Operating System :: OS Independent',
            'Programming Language :: Python :: 3.10',
            'Programming Language :: Python :: 3.11',
            'Programming Language :: Python :: 3.12',
            'Topic :: Scientific/Engineering :: Artificial Intelligence',
        ],
        packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
        python_requires='>=3.10,<3.13',
        # Left out on purpose, and checked at import instead: torch and torchvision, whose build has
        # to match the machine (pip would fetch several GB of the default one over a build that is
        # merely older), and mmcv-lite, which would overwrite the files of an installed full mmcv.
        install_requires=[
            'numpy>=1.23,<2.5',
            'setuptools<82',
            'packaging',
            'mmengine>=0.10.7,<0.12',
            'mmpretrain>=1.2,<1.3',
            'matplotlib<3.11',
            'scikit-learn>=1.3,<2',
            'pillow>=9.2',
            'filelock>=3.12',
        ],
        cmdclass={'build_py': BuildPy, 'develop': Develop, 'editable_wheel': EditableWheel},
        zip_safe=False,
    )
