"""How everything here is timed: contenders take turns; medians of ratios to a baseline."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Literal

import torch

Call = Callable[[], object]
Clock = Literal['cpu', 'wall']

_SHORT_ROUNDS = 2
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    '<=': lambda value, limit: value <= limit,
    '>=': lambda value, limit: value >= limit,
    '==': lambda value, limit: value == limit,
}


@dataclass(frozen=True)
class Options:
    """How to measure.

    Args:
        device: where tensors live: `cpu` or `cuda`.
        threads: of PyTorch on the CPU.
        rounds: in each of which every contender has one turn.
        seconds: that one turn takes, about.
        short: smallest shapes, two rounds of one call: shows that a part works, times nothing.
    """

    device: str = 'cpu'
    threads: int = 1
    rounds: int = 9
    seconds: float = 0.5
    short: bool = False

    def __post_init__(self):
        if self.device.partition(':')[0] not in ('cpu', 'cuda'):
            raise ValueError(f'device must be cpu or cuda, got {self.device!r}.')
        for name, least in (('threads', 1), ('rounds', 2)):
            if getattr(self, name) < least:
                raise ValueError(f'{name} must be at least {least}, got {getattr(self, name)}.')
        if self.seconds <= 0:
            raise ValueError(f'seconds must be positive, got {self.seconds}.')

    @property
    def on_gpu(self) -> bool:
        """Whether events of the GPU time instead of a clock."""
        return torch.device(self.device).type == 'cuda'


@dataclass(frozen=True)
class Timing:
    """Time of one call in milliseconds: median and quartiles over the rounds.

    Args:
        milliseconds: median over the rounds.
        low: first quartile over the rounds.
        high: third quartile over the rounds.
        calls: of one round, whose mean is the round's time.
        rounds: milliseconds of every round, in their order.
    """

    milliseconds: float
    low: float
    high: float
    calls: int
    rounds: tuple[float, ...] = ()

    @classmethod
    def of(cls, rounds: list[float], calls: int) -> 'Timing':
        """Sums up the milliseconds per call of every round."""
        low, middle, high = _quartiles(rounds)
        return cls(middle, low, high, calls, tuple(rounds))


@dataclass(frozen=True)
class Row:
    """One figure.

    Args:
        case: contender / baseline, shape.
        value: the figure, usually a ratio.
        unit: of `value`; `x` for a ratio.
        target: what `value` should be, such as `<= 2.0`, or None.
        details: further figures by name.
    """

    case: str
    value: float
    unit: str = 'x'
    target: str | None = None
    details: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        if self.target is not None:
            _read_target(self.target)

    @property
    def held(self) -> bool | None:
        """Whether the target holds; None without a target."""
        if self.target is None:
            return None
        compare, limit = _read_target(self.target)
        return compare(self.value, limit)


def alternate(
    contenders: Mapping[str, Call], options: Options, *, clock: Clock = 'cpu'
) -> dict[str, Timing]:
    """Times calls against each other.

    Every contender has one turn per round, so that what else the machine does meets all of them
    alike; a round's time is the mean over the calls of the turn. On the CPU the first call of every
    contender, which allocates and compiles, is not counted, on a GPU neither are the next three.

    Args:
        contenders: name -> call without arguments.
        options: device, threads, rounds.
        clock: `cpu` counts the time that this process computes, which other processes disturb
            least, but sums over threads: with several threads, and for calls that wait for another
            process, take `wall`. With `options.threads > 1` it is always `wall`. On a GPU, events
            count in both cases.
    """
    if not contenders:
        raise ValueError('alternate needs at least one contender, got none.')
    with _threads(options.threads):
        timer = _timer(options, clock)
        calls = {name: _calls(call, timer, options) for name, call in contenders.items()}
        rounds: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(_SHORT_ROUNDS if options.short else options.rounds):
            # Who comes first finds the caches as the last of the round before left them.
            order = list(contenders) if turn % 2 == 0 else list(reversed(contenders))
            for name in order:
                rounds[name].append(timer(contenders[name], calls[name]))
    return {name: Timing.of(values, calls[name]) for name, values in rounds.items()}


def ratio(
    case: str,
    timings: Mapping[str, Timing],
    contender: str,
    baseline: str,
    target: str | None = None,
) -> Row:
    """Time of the contender over the time of the baseline.

    The value is the median over the rounds of the ratio within a round; the details hold its
    quartiles and the milliseconds of both with theirs.

    Raises:
        ValueError: the two were not timed by the same call of `alternate`.
    """
    ours, theirs = timings[contender], timings[baseline]
    if not ours.rounds or len(ours.rounds) != len(theirs.rounds):
        raise ValueError(
            f'{contender!r} and {baseline!r} must be timed by the same call of alternate, got '
            f'{len(ours.rounds)} and {len(theirs.rounds)} rounds.'
        )
    pairs = zip(ours.rounds, theirs.rounds, strict=True)
    low, middle, high = _quartiles([a / b for a, b in pairs])
    details = {'low': low, 'high': high}
    for name, timing in ((contender, ours), (baseline, theirs)):
        details[f'{name} ms'] = timing.milliseconds
        details[f'{name} ms low'] = timing.low
        details[f'{name} ms high'] = timing.high
    return Row(case, middle, target=target, details=details)


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        raise ValueError(f'quartiles need at least two values, got {len(values)}.')
    low, _, high = quantiles(values, method='inclusive')
    return low, median(values), high


def _read_target(target: str) -> tuple[Callable[[float, float], bool], float]:
    sign, _, limit = target.partition(' ')
    try:
        return _COMPARISONS[sign], float(limit)
    except (KeyError, ValueError):
        raise ValueError(
            f'target must be one of {", ".join(_COMPARISONS)}, a space and a number, '
            f'got {target!r}.'
        ) from None


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Sets the threads of PyTorch for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _timer(options: Options, clock: Clock) -> Callable[[Call, int], float]:
    """A function that calls several times and returns the milliseconds per call."""
    if clock not in ('cpu', 'wall'):
        raise ValueError(f"clock must be 'cpu' or 'wall', got {clock!r}.")
    if options.on_gpu:
        return _time_on_gpu
    now = time.process_time if clock == 'cpu' and options.threads == 1 else time.perf_counter

    def timer(call: Call, calls: int) -> float:
        start = now()
        for _ in range(calls):
            call()
        return (now() - start) * 1e3 / calls

    return timer


def _time_on_gpu(call: Call, calls: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / calls


def _calls(call: Call, timer: Callable[[Call, int], float], options: Options) -> int:
    """Warms up; returns how many calls fill a turn."""
    timer(call, 1)
    if options.short:
        return 1
    milliseconds = timer(call, 3) if options.on_gpu else timer(call, 1)
    if milliseconds <= 0:  # below the resolution of the clock
        milliseconds = timer(call, 100) or 1e-4
    return max(1, round(options.seconds * 1e3 / milliseconds))
