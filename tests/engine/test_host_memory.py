"""Freed memory stays with the process, counted in pages that the system had to provide."""

import platform
import subprocess
import sys

import pytest

from mmkdfuse.engine.host_memory import keep_freed_memory

COUNT = """
import resource, sys, torch
from mmkdfuse.engine.host_memory import keep_freed_memory
if sys.argv[1] == 'keep':
    assert keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for iteration in range(3):
    before = faults()
    blocks = [torch.empty(16 << 20).fill_(1) for _ in range(34)]  # above 2 GiB
    del blocks
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='another C library')
def test_large_blocks_are_provided_once():
    pages = {
        case: int(subprocess.check_output([sys.executable, '-c', COUNT, case], text=True))
        for case in ('keep', 'default')
    }
    # A hole too small for a block may have to be filled up once more.
    assert 10 * pages['keep'] < pages['default'], pages


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr('ctypes.CDLL', lambda name: object())
    assert keep_freed_memory() is False
