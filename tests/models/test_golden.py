"""Every method gives the recorded logits, terms and gradients (``tests/golden/record.py``)."""

import json

import pytest
from golden.cases import CASES, FILE, measure

RELATIVE, OF_LARGEST = 1e-6, 1e-9
RECORDED = json.loads(FILE.read_text())


def assert_close(found, expected):
    """Compare numbers by name: 1e-6 of each, or 1e-9 of the largest."""
    assert set(found) == set(expected)
    absolute = OF_LARGEST * max(abs(value) for value in expected.values())
    wrong = {
        name: (found[name], value)
        for name, value in expected.items()
        if found[name] != pytest.approx(value, rel=RELATIVE, abs=absolute)
    }
    assert not wrong, f'{len(wrong)} of {len(expected)} differ (found, recorded): {wrong}'


def flat(rows):
    """Numbers of nested lists by their position, ``'0.3.9'``."""
    if not isinstance(rows, list):
        return {'': rows}
    return {
        f'{index}.{rest}'.rstrip('.'): value
        for index, row in enumerate(rows)
        for rest, value in flat(row).items()
    }


@pytest.fixture(scope='module')
def teachers(tmp_path_factory):
    return tmp_path_factory.mktemp('teachers')


def test_every_case_is_recorded():
    assert set(RECORDED) == set(CASES)


@pytest.mark.parametrize('name', CASES)
def test_method_computes_what_it_did(name, teachers):
    found, expected = measure(CASES[name], teachers), RECORDED[name]
    assert_close(flat(found['logits']), flat(expected['logits']))
    assert_close(found['terms'], expected['terms'])
    norms, products = (
        [
            {key: pair[index] for key, pair in each['gradients'].items()}
            for each in (found, expected)
        ]
        for index in (0, 1)
    )
    assert_close(*norms)
    assert_close(*products)
