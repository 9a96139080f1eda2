"""How timings are taken and compared, on a clock that only the contenders move."""

from dataclasses import replace

import pytest
import torch

from benchmarks import measure
from benchmarks.measure import Options, Row, Timing, alternate, ratio

PLAN = Options(rounds=3, seconds=0.01)


class Clock:
    """Seconds that pass when told to; both clocks of the module ``time``."""

    def __init__(self):
        self.now = 0.0
        self.process_time = self.perf_counter = lambda: self.now

    def takes(self, *milliseconds):
        """A contender whose calls take these times in turn; the last one from then on."""
        times = list(milliseconds)

        def call():
            self.now += (times.pop(0) if len(times) > 1 else times[0]) / 1e3

        return call


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(measure, 'time', clock)
    return clock


def test_the_time_of_one_call_without_the_first(clock):
    # Warm-up 50, trial 2: five calls fill a turn of 10 ms.
    timing = alternate({'a': clock.takes(50, 2)}, PLAN)['a']
    assert timing.calls == 5
    assert timing.rounds == pytest.approx((2, 2, 2))
    assert (timing.milliseconds, timing.low, timing.high) == pytest.approx((2, 2, 2))


def test_median_and_quartiles_over_rounds(clock):
    # One call per turn: warm-up, trial, then the rounds.
    timing = alternate({'a': clock.takes(10, 10, 10, 40, 20)}, PLAN)['a']
    assert timing.rounds == pytest.approx((10, 40, 20))
    assert (timing.low, timing.milliseconds, timing.high) == pytest.approx((15, 20, 30))


def test_contenders_take_turns_and_who_is_first_changes(clock):
    seen = []
    timings = alternate(
        {name: lambda name=name: (seen.append(name), clock.takes(10)()) for name in 'ab'}, PLAN
    )
    assert {timing.calls for timing in timings.values()} == {1}
    assert ''.join(seen) == 'aabb' + 'ab' + 'ba' + 'ab'


def test_short_runs_two_rounds_of_one_call_after_one(clock):
    seen = []
    timings = alternate(
        {'a': lambda: (seen.append(1), clock.takes(1)())}, replace(PLAN, short=True)
    )
    assert len(seen) == 3 and len(timings['a'].rounds) == 2 and timings['a'].calls == 1


def test_a_call_too_fast_for_the_clock_is_counted_again(clock):
    times = iter([0, 0])  # warm-up and trial stand still
    timing = alternate({'a': lambda: clock.takes(next(times, 0.1))()}, PLAN)['a']
    assert timing.calls == 100 and timing.milliseconds == pytest.approx(0.1)


@pytest.mark.parametrize(
    ('threads', 'asked', 'used'), [(1, 'cpu', 1.0), (1, 'wall', 2.0), (2, 'cpu', 2.0)]
)
def test_computing_time_counts_for_one_thread_only(monkeypatch, threads, asked, used):
    clock = Clock()
    clock.perf_counter = lambda: 2 * clock.now
    monkeypatch.setattr(measure, 'time', clock)
    timing = alternate({'a': clock.takes(1)}, replace(PLAN, threads=threads), clock=asked)['a']
    assert timing.milliseconds == pytest.approx(used)


def test_threads_are_set_and_restored():
    before, seen = torch.get_num_threads(), []
    options = Options(threads=before + 1, short=True)
    alternate({'a': lambda: seen.append(torch.get_num_threads())}, options)
    assert set(seen) == {before + 1} and torch.get_num_threads() == before


def test_a_ratio_compares_within_rounds():
    # The machine slows down by 10 in the last round: the ratio of that round stays.
    timings = {'new': Timing.of([2, 3, 20], 1), 'old': Timing.of([4, 4, 40], 7)}
    row = ratio('new / old', timings, 'new', 'old', '<= 0.5')
    assert row.value == 0.5 and row.held
    assert (row.details['low'], row.details['high']) == (0.5, 0.625)
    assert (row.details['new ms'], row.details['old ms']) == (3, 4)
    assert (row.details['old ms low'], row.details['old ms high']) == (4, 22)


@pytest.mark.parametrize(
    ('value', 'target', 'held'),
    [
        (2.0, '<= 2.0', True),
        (2.1, '<= 2.0', False),
        (8.0, '>= 8', True),
        (7.9, '>= 8', False),
        (0.0, '== 0', True),
        (1.0, '== 0', False),
        (1.0, None, None),
    ],
)
def test_targets(value, target, held):
    assert Row('case', value, target=target).held is held


@pytest.mark.parametrize('target', ['2.0', '< 2', '<= two', '<=2'])
def test_unreadable_target_is_refused(target):
    with pytest.raises(ValueError, match='target must be one of <=, >=, ==, a space and a number'):
        Row('case', 1.0, target=target)


def test_timings_of_different_races_are_not_compared():
    timings = {'a': Timing.of([1, 2, 3], 1), 'b': Timing.of([1, 2], 1), 'c': Timing(1, 1, 1, 1)}
    for pair in (('a', 'b'), ('c', 'c')):
        with pytest.raises(ValueError, match='must be timed by the same call of alternate'):
            ratio('case', timings, *pair)


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (dict(device='tpu'), "device must be cpu or cuda, got 'tpu'"),
        (dict(threads=0), 'threads must be at least 1, got 0'),
        (dict(rounds=1), 'rounds must be at least 2, got 1'),
        (dict(seconds=0.0), 'seconds must be positive, got 0.0'),
    ],
)
def test_options_out_of_range_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        Options(**wrong)


def test_no_contender_and_an_unknown_clock_are_refused():
    with pytest.raises(ValueError, match='at least one contender'):
        alternate({}, PLAN)
    with pytest.raises(ValueError, match="clock must be 'cpu' or 'wall', got 'sun'"):
        alternate({'a': int}, PLAN, clock='sun')
