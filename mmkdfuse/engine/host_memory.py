"""Memory that training on a CPU frees is kept for the next iteration."""

from __future__ import annotations

import ctypes

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = -1


def keep_freed_memory() -> bool:
    """Tell glibc not to give freed memory back to the system; returns whether it is told.

    By default it returns every block above 32 MiB when it is freed. A map of that size, such as
    512x16x32x32 in float32, is then zeroed page by page in every iteration. Iterations with 512
    images were 1.2 to 1.5 times as long per image as with 64. Small blocks at the end of the heap
    are trimmed likewise. The process keeps its peak of memory until it ends. Only the main thread's
    memory is kept. Other C libraries are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
