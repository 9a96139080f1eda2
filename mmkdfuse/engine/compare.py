"""Several configs trained with several seeds, side by side in one table."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from mmkdfuse.engine.launch import load_config, train
from mmkdfuse.engine.run_record import METRICS_FILE


def compare(
    configs: Sequence[str | os.PathLike],
    work_dir: str | os.PathLike,
    seeds: Sequence[int] = (0,),
    cfg_options: dict[str, Any] | None = None,
) -> str:
    """Train every config with every seed and return a table of the results.

    Run ``i`` lives in ``work_dir/<config name>/seed<i>``. A finished run of the same config is not
    repeated, an interrupted one goes on, so the same command can be given again at any time.

    Args:
        configs: Config files.
        work_dir: Folder of all runs.
        seeds: Random seeds.
        cfg_options: Changes with dotted keys, for all configs.

    Returns:
        A Markdown table, one row a config in the order given.
    """
    folders = [Path(work_dir) / name for name in _names(configs)]
    for config, folder in zip(configs, folders, strict=True):
        for seed in seeds:
            # The table is what counts; curves are in each run's vis_data.
            options = {'log_level': 'WARNING', **(cfg_options or {}), 'randomness.seed': seed}
            run = folder / f'seed{seed}'
            started = run.exists()
            if _is_finished(run, load_config(config, options).pretty_text):
                print(f'{run}: already finished')
                continue
            print(f'{run}: training {config}', flush=True)
            train(config, work_dir=run, resume=started, cfg_options=options)
    return table(folders)


def _names(configs: Sequence[str | os.PathLike]) -> list[str]:
    """Folder names of configs: file names, with the folder's in front where these are equal."""
    paths = [Path(config).absolute() for config in configs]
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        names = [f'{path.parent.name}_{path.stem}' for path in paths]
    if len(set(names)) < len(names):
        raise ValueError(
            f'configs={[str(c) for c in configs]}: two have the same name, rename one.'
        )
    return names


_CONFIG_FILE = 'compared_config.txt'


def _is_finished(run: Path, config_text: str) -> bool:
    """Whether a run is finished; its config is noted when it starts and must stay the same."""
    stamp = run / _CONFIG_FILE
    if not stamp.is_file():
        run.mkdir(parents=True, exist_ok=True)
        stamp.write_text(config_text)
        return False
    if stamp.read_text() != config_text:
        raise ValueError(
            f'{run} holds a run of a different config; remove it or give another --work-dir.'
        )
    return (run / METRICS_FILE).is_file()


def table(folders: Iterable[str | os.PathLike]) -> str:
    """Return a Markdown table of finished runs, one row a folder, its seeds averaged.

    Args:
        folders: Folders that hold runs (``seed0``, ``seed1``, ..), each with ``metrics.json``.

    Raises:
        FileNotFoundError: If a folder holds no finished run.
    """
    rows = [_Row.read(Path(folder)) for folder in folders]
    heads = max((row.heads for row in rows), key=len, default=[])
    columns = [*heads[:-1], 'main', 'ensemble'] if len(heads) > 1 else ['main']
    lines = [
        f'| top-1 accuracy, % | {" | ".join(columns)} | seeds | minutes per run |',
        f'|---|{"---:|" * (len(columns) + 2)}',
    ]
    for row in rows:
        cells = ' | '.join(row.cell(column) for column in columns)
        lines.append(f'| {row.name} | {cells} | {row.seeds} | {row.minutes:.1f} |')
    return '\n'.join(lines)


class _Row:
    """One config's finished runs."""

    def __init__(self, name: str, records: list[dict]) -> None:
        self.name = name
        self.seeds = len(records)
        self.minutes = mean(record['seconds'] for record in records) / 60
        # A single network reports mmpretrain's `accuracy/top1`.
        self.metrics = [
            {key.replace('accuracy/', 'main/'): value for key, value in record['metrics'].items()}
            for record in records
        ]

    @classmethod
    def read(cls, folder: Path) -> '_Row':
        files = sorted(folder.glob(f'seed*/{METRICS_FILE}'))
        if not files:
            raise FileNotFoundError(f'{folder} holds no finished run (seed*/{METRICS_FILE}).')
        return cls(folder.name, [json.loads(file.read_text()) for file in files])

    @property
    def heads(self) -> list[str]:
        keys = [key.removesuffix('/top1') for key in self.metrics[0] if key.endswith('/top1')]
        return [key for key in keys if key.startswith('branch')]

    def cell(self, column: str) -> str:
        values = [run[f'{column}/top1'] for run in self.metrics if f'{column}/top1' in run]
        is_main = self.heads and column == self.heads[-1]  # stands in the column `main`
        if not values or is_main:
            return ''
        spread = f' ± {stdev(values):.2f}' if len(values) > 1 else ''
        return f'{mean(values):.2f}{spread}'
