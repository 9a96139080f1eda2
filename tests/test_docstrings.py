"""Every docstring: its examples run, every public class has one, and sentences are short."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import mmkdfuse
from mmkdfuse import registry

PACKAGE = Path(mmkdfuse.__file__).parent
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(mmkdfuse.__path__, f'{mmkdfuse.__name__}.')
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
WORDS = 30
# A class, function or module is named by a noun, not by a question.
QUESTION = re.compile(r'(What|Which|Where|How|Who|Whatever)\b')
SECTION = re.compile(r'(Args|Attributes|Raises|Returns|Yields|Examples?):$')
ITEM = re.compile(r'(- |\d+\. )')
ARGUMENT = re.compile(r'[*\w, ]+: ')
SENTENCE_END = re.compile(r'(?:(?<=[^.][.!?])|(?<=[.!?]\)))\s+(?=[A-Z`\'"(*])')


def example_finder():
    return doctest.DocTestFinder(exclude_empty=True)


def public_classes():
    """Classes that are registered in our registries or exported by a package, by full name."""
    found = {}
    for module in map(importlib.import_module, MODULES):
        found |= {
            f'{module.__name__}.{name}': getattr(module, name)
            for name in getattr(module, '__all__', ())
        }
    for each in vars(registry).values():
        if isinstance(each, registry.Registry):
            found |= {f'{each.name}.{name}': kind for name, kind in each.module_dict.items()}
    ours = {
        kind
        for kind in found.values()
        if inspect.isclass(kind) and kind.__module__.startswith(f'{mmkdfuse.__name__}.')
    }
    return {f'{kind.__module__}.{kind.__qualname__}': kind for kind in ours}


CLASSES = public_classes()


def docstrings():
    """Place and text of every docstring of the package, private ones included."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for path in sorted(PACKAGE.rglob('*.py')):
        if '.mim' in path.parts:  # copies of configs and tools
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, documented) and ast.get_docstring(node):
                place = f'{path.relative_to(PACKAGE)}:{node.body[0].lineno}'
                yield place, ast.get_docstring(node)


def paragraphs(docstring):
    """Texts without examples, indented formulas and tables; an entry of a list is one of them."""
    lines, section = [], ''
    for line in [*docstring.splitlines(), '']:
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if not indent and text:
            section = ''
        heading = SECTION.match(text)
        section = heading[1] if heading else section
        entry = ITEM.match(text) or (section and indent == 4 and ARGUMENT.match(text))
        if heading or entry or not text:
            if lines:
                yield ' '.join(lines)
            lines = []
        if entry:
            text = text[entry.end() :]
        is_block = not section and not lines and indent > 0 and not entry  # formulas, tables
        if text and not heading and not section.startswith('Example') and not is_block:
            lines.append(text)


def sentences(paragraph):
    text = re.sub(r'``.*?``', 'Code', paragraph).replace('et al.', 'et al').replace('i.e.', 'ie')
    return SENTENCE_END.split(text)


def count_words(sentence):
    """Number of words; numbers, operators and symbols of one letter are none."""
    return sum(bool(re.search('[A-Za-z]{2}|^[aAI]$', word)) for word in sentence.split())


@pytest.mark.parametrize('module', MODULES)
def test_examples_give_what_they_say(module):
    examples = [
        example for example in example_finder().find(importlib.import_module(module))
        if example.examples
    ]  # fmt: skip
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    report = []
    for example in examples:
        runner.run(example, out=report.append)
    assert runner.failures == 0, ''.join(report)


@pytest.mark.parametrize('name', sorted(CLASSES))
def test_every_public_class_has_an_example(name):
    examples = doctest.DocTestParser().get_examples(CLASSES[name].__dict__['__doc__'] or '')
    assert examples, f'{name} needs an `Example:` in its docstring'


def test_the_search_for_public_classes_finds_them():
    names = {name.rpartition('.')[2] for name in CLASSES}
    assert {'KFMSD', 'KDLoss', 'CheckpointHook', 'Digits', 'EnsembleAccuracy', 'Cost'} <= names


def test_docstrings_begin_with_a_noun_or_a_verb():
    wrong = [place for place, text in docstrings() if QUESTION.match(text)]
    assert wrong == []


def test_sentences_are_short():
    wrong = [
        f'{place}: {count_words(sentence)} words: {sentence}'
        for place, text in docstrings()
        for paragraph in paragraphs(text)
        for sentence in sentences(paragraph)
        if count_words(sentence) > WORDS
    ]
    assert wrong == [], '\n'.join(wrong)


def test_the_splitter_tells_sentences_from_formulas_and_examples():
    text = """Sum of terms.

With many words that say something, i.e. a sentence. Another (in brackets.) Last ``a. B``

    x = y + z. This line is a formula

- one entry. It has two sentences
- another entry

Args:
    name: Text of an argument
        that goes on. Next.

Example:
    >>> call('many words. That do not count')
"""
    found = [each for paragraph in paragraphs(text) for each in sentences(paragraph)]
    assert found == [
        *('Sum of terms.', 'With many words that say something, ie a sentence.'),
        *('Another (in brackets.)', 'Last Code', 'one entry.', 'It has two sentences'),
        *('another entry', 'Text of an argument that goes on.', 'Next.'),
    ]
