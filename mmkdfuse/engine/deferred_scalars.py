"""Scalars of every iteration that stay on the device until they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch import Tensor


def to_host(values: Tensor) -> np.ndarray:
    """Copy values to the host: the one place where recorded scalars wait for the device."""
    return values.cpu().double().numpy()


class DeferredHistory(HistoryBuffer):
    """mmengine's history of one scalar, filled when it is read.

    Every reading, by any of its methods, by a copy and by a checkpoint, is complete. Appending
    takes constant time, where mmengine's own copies the whole history. A copy is a plain
    ``HistoryBuffer``.

    Args:
        history: The values so far.
        fetch: Called before every reading and every update; it may itself call
            :meth:`update` once it has nothing more to bring.
    """

    def __init__(
        self, history: HistoryBuffer | None = None, fetch: Callable[[], None] | None = None
    ) -> None:
        self.fetch = fetch
        self._new_logs: list[float] = []
        self._new_counts: list[float] = []
        logs, counts = ([], []) if history is None else history.data
        length = {} if history is None else {'max_length': history.max_length}
        super().__init__(logs, counts, **length)

    def update(self, log_val: float, count: int = 1) -> None:
        """Append one value, see ``HistoryBuffer.update``."""
        if not isinstance(log_val, (int, float)) or not isinstance(count, (int, float)):
            raise TypeError(
                f'log_val and count must be int or float, not {type(log_val).__name__} and '
                f'{type(count).__name__}'
            )
        if self.fetch is not None:
            self.fetch()  # what was recorded before comes before
        self._new_logs.append(log_val)
        self._new_counts.append(count)

    def current(self) -> float:
        """Return the newest value."""
        if self.fetch is None and self._new_logs:
            return self._new_logs[-1]  # read in every iteration by the timer
        return super().current()

    @property
    def _log_history(self) -> np.ndarray:
        self._complete()
        return self._logs.values

    @_log_history.setter
    def _log_history(self, values: np.ndarray) -> None:
        self._logs = _Column(values)

    @property
    def _count_history(self) -> np.ndarray:
        self._complete()
        return self._counts.values

    @_count_history.setter
    def _count_history(self, values: np.ndarray) -> None:
        self._counts = _Column(values)

    def _complete(self) -> None:
        if self.fetch is not None:
            self.fetch()
        if self._new_logs:
            self._logs.extend(self._new_logs, self.max_length)
            self._counts.extend(self._new_counts, self.max_length)
            self._new_logs, self._new_counts = [], []

    def __reduce__(self) -> tuple:
        logs, counts = self.data
        return HistoryBuffer, (logs, counts, self.max_length)


class _Column:
    """Numbers in memory with room behind them, so that few extensions copy the old ones."""

    def __init__(self, values: np.ndarray) -> None:
        self._memory = np.array(values, dtype=np.float64)
        self._begin, self._end = 0, len(values)

    @property
    def values(self) -> np.ndarray:
        """The numbers, float64; a view."""
        return self._memory[self._begin : self._end]

    def extend(self, new: list[float], max_length: int) -> None:
        """Append numbers and keep the last ``max_length``."""
        if self._end + len(new) > len(self._memory):
            old = self.values
            self._memory = np.empty(2 * (len(old) + len(new)))
            self._memory[: len(old)] = old
            self._begin, self._end = 0, len(old)
        self._memory[self._end : self._end + len(new)] = new
        self._end += len(new)
        self._begin = max(self._begin, self._end - max_length)


class DeferredScalars:
    """Recorder of scalars on a device into a message hub, without waiting for the device.

    The scalars of an iteration are copied into one small tensor. All iterations since the last
    reading come to the host in one transfer, when one of the histories in the hub is read. The
    values and their order are those that ``MessageHub.update_scalar`` would have stored.

    Args:
        hub: Hub of the histories.
        limit: Iterations to keep at most before they are read, at least 1.
    """

    def __init__(self, hub: MessageHub, limit: int = 1000) -> None:
        self._hub = hub
        self._limit = limit
        self._rows: list[tuple[tuple[str, ...], Tensor]] = []

    @torch.no_grad()
    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Record the scalars of one iteration.

        Args:
            scalars: Tensors of one element by key of the hub; values may be reused afterwards.
        """
        if not scalars:
            return
        if len(self._rows) >= self._limit:
            self.read()
        histories = self._hub.log_scalars
        for key in scalars:
            if getattr(histories.get(key), 'fetch', None) != self.read:
                defer_history(self._hub, key, self.read)
        self._rows.append((tuple(scalars), _joined(list(scalars.values()), torch.stack)))

    def read(self) -> None:
        """Bring the recorded scalars to the hub; waits for the device if there are any."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        values = iter(to_host(_joined([row for _, row in rows], torch.cat)).tolist())
        for keys, _ in rows:
            for key in keys:
                self._hub.log_scalars[key].update(next(values))


def _joined(values: list[Tensor], join: Callable[[list[Tensor]], Tensor]) -> Tensor:
    """One tensor (L,) of all values, in float64 where joining their types would round some."""
    first = values[0].dtype
    if any(value.dtype != first for value in values):
        values = [value.double() for value in values]
    try:
        return join(values).flatten()
    except RuntimeError:  # of different shapes or on different devices
        device = values[0].device
        return torch.cat([v.flatten().to(device, non_blocking=True) for v in values])


def defer_history(hub: MessageHub, key: str, fetch: Callable[[], None] | None = None) -> None:
    """Make the history of a key a :class:`DeferredHistory`, with what it holds so far."""
    history = DeferredHistory(hub.log_scalars.get(key), fetch)
    if key in hub.log_scalars:
        hub.log_scalars[key] = history
    else:
        hub.load_state_dict(
            {'log_scalars': {key: history}, 'runtime_info': {}, 'resumed_keys': {key: True}}
        )
