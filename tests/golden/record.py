"""Record what every method computes today, as the reference of ``tests/models/test_golden.py``.

Usage, in the environment of the tests::

    python tests/golden/record.py             # writes tests/golden/methods.json
    python tests/golden/record.py other.json  # writes elsewhere

The file changes only where a method is meant to compute something else.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from cases import CASES, FILE, measure
from mmengine.logging import MMLogger

import mmkdfuse

DIGITS = 12


def rounded(value: Any) -> Any:
    """Round all numbers in nested lists and dicts."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f'{value:.{DIGITS - 1}e}')


def main(path: Path) -> None:
    """Measure all cases and write the file, a line for each."""
    torch.set_num_threads(1)
    # Not a line for every parameter that is initialised.
    MMLogger.get_instance('mmengine', log_level='WARNING')
    print(f'with the code of {mmkdfuse.__file__}')
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for name, case in CASES.items():
            start = time.perf_counter()
            found = rounded(measure(case, Path(folder)))
            lines.append(f'{json.dumps(name)}: {json.dumps(found, separators=(",", ":"))}')
            print(f'{name}: {time.perf_counter() - start:.1f} s')
    path.write_text('{\n' + ',\n'.join(lines) + '\n}\n')
    print(f'{len(lines)} cases, {path.stat().st_size / 1000:.0f} kB: {path}')


if __name__ == '__main__':
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)
