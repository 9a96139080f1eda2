"""Trains a suite within a budget of time and fills its table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from mmkdfuse.checkpoint import write_atomically
from mmkdfuse.engine.run_record import METRICS_FILE
from mmkdfuse.sweeps.suite import Row, Suite, config_root, read_suite

_GRACE = 120.0  # seconds that a run has to save its state and end
RESULTS_FILE = 'results.json'
TABLE_FILE = 'results.md'


def reproduce(
    suite: str | os.PathLike | Suite,
    work_dir: str | os.PathLike,
    budget: float | None = None,
) -> str:
    """Train the rows of a suite in order of value, as far as the budget lasts.

    Every run is a process of its own, so that one that fails stops nothing else. A finished run is
    not repeated, an interrupted one goes on where it stopped: the same command can be given again
    until all is done. ``results.md`` and ``results.json`` in ``work_dir`` hold what there is.

    Args:
        suite: A suite, its name in ``configs/suites``, or the path of its file.
        work_dir: Folder of all runs, ``work_dir/<row>/seed<n>``.
        budget: Minutes; when they are over, the present run saves its state and ends. None for no
            end.

    Returns:
        The table of results, as Markdown.

    Raises:
        ValueError: If the budget is negative.
    """
    if budget is not None and budget < 0:
        raise ValueError(f'budget={budget} must be a number of minutes, 0 or more.')
    known = suite if isinstance(suite, Suite) else read_suite(suite)
    root = Path(work_dir)
    deadline = None if budget is None else time.monotonic() + 60 * budget
    failed = []
    for row, seed in known.runs():
        run = root / row.name / f'seed{seed}'
        if (run / METRICS_FILE).is_file():
            continue
        if deadline is not None and time.monotonic() >= deadline:
            break
        print(f'{run}: training {row.config}', flush=True)
        if not _train(row, seed, run, deadline, root):
            failed.append(run)
        _write(known, root)
    for run in failed:
        print(f'{run}: failed, see {run / "output.log"}', file=sys.stderr)
    _write(known, root)
    return table(known, root)


def _train(row: Row, seed: int, run: Path, deadline: float | None, root: Path) -> bool:
    """Train one run, or end it at the deadline with its state saved; False if it failed."""
    run.mkdir(parents=True, exist_ok=True)
    config = row.config if Path(row.config).is_file() else str(config_root() / row.config)
    changes: dict[str, Any] = {'randomness.seed': seed}
    for key, value in row.options.items():
        changes[key] = value.format(work_dir=root) if isinstance(value, str) else value
    call = (
        'import json, sys; import mmkdfuse; '
        'mmkdfuse.train(sys.argv[1], work_dir=sys.argv[2], resume=True, '
        'cfg_options=json.loads(sys.argv[3]))'
    )
    command = [sys.executable, '-c', call, config, str(run), json.dumps(changes)]
    with open(run / 'output.log', 'ab') as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            process.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _stop(process)
            return True
        except KeyboardInterrupt:
            _stop(process)
            raise
    return process.returncode == 0


def _stop(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def results(suite: Suite, work_dir: str | os.PathLike) -> list[dict[str, Any]]:
    """Collect every finished run of a suite.

    Args:
        suite: The suite.
        work_dir: Folder of its runs.

    Returns:
        One entry a run: ``row``, ``seed``, ``config``, ``options`` and the run's own record.
    """
    found = []
    for row, seed in suite.runs():
        file = Path(work_dir) / row.name / f'seed{seed}' / METRICS_FILE
        if file.is_file():
            record = json.loads(file.read_text())
            entry = dict(row=row.name, seed=seed, config=row.config, options=row.options)
            found.append({**entry, **{k: v for k, v in record.items() if k not in entry}})
    return found


def table(suite: Suite, work_dir: str | os.PathLike) -> str:
    """Return the results of a suite as a Markdown table: mean, spread and number of seeds.

    Args:
        suite: The suite.
        work_dir: Folder of its runs.
    """
    runs = results(suite, work_dir)
    scores = {
        row.name: [_scores(run['metrics']) for run in runs if run['row'] == row.name]
        for row in suite.rows
    }
    heads = _columns([head for found in scores.values() for each in found for head in each])
    papers = _columns([head for row in suite.rows for head in row.paper])
    titles = [*heads, 'seeds', 'minutes', *(f'{head}, paper' for head in papers)]
    lines = [
        f'**{suite.title}**, top-1 accuracy, %',
        '',
        f'| row | {" | ".join(titles)} | config |',
        f'|---|{"---:|" * len(titles)}---|',
    ]
    for row in suite.rows:
        found = scores[row.name]
        minutes = [run['seconds'] / 60 for run in runs if run['row'] == row.name and run['seconds']]
        cells = [_cell([each[head] for each in found if head in each]) for head in heads]
        cells += [str(len(found) or ''), f'{mean(minutes):.1f}' if minutes else '']
        cells += [str(row.paper.get(head, '')) for head in papers]
        lines.append(f'| {row.name} | {" | ".join(cells)} | `{row.config}` |')
    return '\n'.join(lines)


def _scores(metrics: dict[str, float]) -> dict[str, float]:
    """Top-1 accuracy by head; a single network's is the main head's."""
    found = {}
    for name, value in metrics.items():
        head = name.removesuffix('/top1')
        if head != name:
            found['main' if head == 'accuracy' else head] = value
    branches = [head for head in found if head.startswith('branch')]
    if len(branches) > 1:  # the last one is the main network
        del found[branches[-1]]
    return found


def _columns(heads: Sequence[str]) -> list[str]:
    branches = sorted({head for head in heads if head.startswith('branch')})
    return [*branches, *(head for head in ('main', 'ensemble') if head in heads)]


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ''
    spread = f' ± {stdev(values):.2f}' if len(values) > 1 else ''
    return f'{mean(values):.2f}{spread}'


def _write(suite: Suite, root: Path) -> None:
    text = json.dumps(results(suite, root), indent=1, default=str)
    write_atomically(root / RESULTS_FILE, text.encode())
    write_atomically(root / TABLE_FILE, f'{table(suite, root)}\n'.encode())
