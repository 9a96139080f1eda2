"""Every part of the benchmark runs and returns figures; how large they are is not tested."""

import json
import math
from pathlib import Path

import pytest

from benchmarks.measure import Options, Row
from benchmarks.parts import choose_parts, find_parts, run_part
from benchmarks.report import as_dict

PARTS = find_parts()
PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'performance.md'


@pytest.mark.slow
@pytest.mark.parametrize('name', PARTS)
def test_a_part_returns_finite_figures_that_json_holds(name):
    result = run_part(name, PARTS[name], Options(short=True))
    assert result.rows and all(isinstance(row, Row) for row in result.rows)
    for row in result.rows:
        figures = [row.value, *row.details.values()]
        assert all(math.isfinite(figure) for figure in figures), row
        assert row.value > 0 or row.target in ('== 0', '<= 1e-6'), row
    cases = [row.case for row in result.rows]
    assert len(set(cases)) == len(cases)
    written = json.loads(json.dumps(as_dict(result)))
    assert (written['part'], written['title']) == (name, result.title)
    assert [row['case'] for row in written['rows']] == cases
    assert [row['held'] for row in written['rows']] == [row.held for row in result.rows]


def test_the_parts_of_the_package_are_found():
    assert {'evaluation', 'scaling', 'growth'} <= set(PARTS)
    assert not {'measure', 'parts', 'report', '__main__'} & set(PARTS)
    assert all(part.TITLE and callable(part.measure) for part in PARTS.values())


def test_the_page_describes_every_part():
    text = PAGE.read_text(encoding='utf-8')
    assert [name for name in PARTS if f'`{name}`' not in text] == []


def test_parts_are_chosen_by_name_in_the_order_asked():
    assert list(choose_parts(['scaling', 'growth'])) == ['scaling', 'growth']
    assert choose_parts([]) == PARTS
    with pytest.raises(ValueError, match="There is no part 'growht'; the parts are .*growth"):
        choose_parts(['growth', 'growht'])


def test_a_part_without_figures_is_refused():
    class Empty:
        TITLE = 'nothing'

        @staticmethod
        def measure(options):
            return []

    with pytest.raises(RuntimeError, match="'empty' measured nothing"):
        run_part('empty', Empty, Options())
