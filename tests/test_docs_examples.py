"""Documents: their files are those of the tests, configs pass the check, commands parse."""

import argparse
import ast
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mmkdfuse.engine.config_check import check_config
from mmkdfuse.registry import MODELS

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs'
METHODS = ROOT / 'tests' / 'outsiders' / 'methods'
PAGE = ROOT / 'docs' / 'adding_a_method.md'
DOCUMENTS = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
# Folders below `configs/` in which a config of a document may be meant to lie.
FOLDERS = [CONFIGS / 'kfmsd', CONFIGS / 'mfakd', CONFIGS / 'comparison']
SHOWN = ['attention.py', 'attention_config.py', 'ramped_kd.py', 'contrast.py', 'taught_kfmsd.py']


def python_blocks(document):
    return re.findall(r'(?ms)^```python\n(.*?)^```$', document.read_text())


def commands(document):
    """Commands of indented blocks that call a tool, continued lines joined, comments gone."""
    text = document.read_text().replace('\\\n', ' ')
    for line in re.findall(r'(?m)^    (?:\$ )?((?:\w+=\S+ )*python tools/.*)$', text):
        words = shlex.split(line, comments=True)
        if not any(character in line for character in '[|'):  # the forms of a command, not one
            yield words[words.index('python') + 1 :]


def config_blocks(document):
    return [block for block in python_blocks(document) if re.search(r'(?m)^_base_ =', block)]


def located(block):
    """The same config with absolute paths of its bases, wherever it is meant to lie."""

    def absolute(match):
        name = match[1].removeprefix('../mmkdfuse/configs/')
        found = [path for folder in (CONFIGS, *FOLDERS) if (path := folder / name).is_file()]
        assert found, f'{match[1]} is no config file'
        return repr(str(found[0].resolve()))

    bases, rest = re.match(r"(?ms)(.*?^_base_ = (?:\[.*?\]|'.*?'))(.*)", block).groups()
    return re.sub(r"'([^']+\.py)'", absolute, bases) + rest


@pytest.fixture
def outsiders(monkeypatch):
    """Modules of the documents can be imported; what they register is gone again afterwards."""
    monkeypatch.syspath_prepend(METHODS)
    registered, modules = set(MODELS.module_dict), set(sys.modules)
    yield
    for name in set(MODELS.module_dict) - registered:
        del MODELS.module_dict[name]
    for path in METHODS.glob('*.py'):
        if path.stem not in modules:
            sys.modules.pop(path.stem, None)


@pytest.mark.parametrize('name', SHOWN)
def test_files_are_shown_as_they_are_tested(name):
    assert (METHODS / name).read_text() in python_blocks(PAGE)


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.stem)
def test_python_blocks_are_python(document):
    for block in python_blocks(document):
        ast.parse(re.sub(r'{{.*?}}', '{}', block))


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.stem)
def test_configs_pass_the_check(document, outsiders, tmp_path):
    for number, block in enumerate(config_blocks(document)):
        path = tmp_path / f'config{number}.py'
        path.write_text(located(block))
        assert check_config(Config.fromfile(path)) == [], block


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.stem)
def test_commands_parse_and_name_files_that_exist(document, monkeypatch):
    class Parsed(Exception):  # noqa: N818
        pass

    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, *arguments):
        parse(self, *arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_and_stop)
    for words in commands(document):
        monkeypatch.setattr(sys, 'argv', words)
        with pytest.raises(Parsed):
            runpy.run_path(str(ROOT / words[0]), run_name='__main__')
        for word in words[1:]:
            if re.fullmatch(r'configs/[\w/]+\.py', word):
                assert (ROOT / word).is_file(), word
            if word.startswith('../project/'):
                assert (METHODS / Path(word).name).is_file(), word


def test_there_is_something_to_check():
    assert len(config_blocks(PAGE)) >= 5
    assert sum(len(list(commands(document))) for document in DOCUMENTS) > 30


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.stem)
def test_links_lead_somewhere(document):
    text = re.sub(r'(?ms)^```.*?^```$', '', document.read_text())
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if target.startswith('http'):
            continue
        path, _, anchor = target.partition('#')
        linked = (document.parent / path).resolve() if path else document
        assert linked.exists(), target
        if anchor:
            assert anchor in headings(linked), target


def headings(document):
    """Anchors of a document, as GitHub makes them."""
    titles = re.findall(r'(?m)^#+ (.*)$', document.read_text())
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}
