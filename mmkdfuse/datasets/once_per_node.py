"""Preparing files once per machine when several processes need them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from mmengine import dist

T = TypeVar('T')


def first_on_node(task: Callable[[], T]) -> T:
    """Run a task on the first process of every machine, then on the others.

    Args:
        task: Must be cheap when its work is already done (a download, a cache on disk).

    Returns:
        Result of the task in this process.
    """
    rank = int(os.environ.get('LOCAL_RANK', dist.get_rank()))
    if rank == 0:
        result = task()
    dist.barrier()
    if rank != 0:
        result = task()
    return result
