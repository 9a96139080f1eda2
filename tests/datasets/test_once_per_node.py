"""Work on files is done first by one process of every machine."""

import pytest
from mmengine import dist

from mmkdfuse.datasets.once_per_node import first_on_node


@pytest.mark.parametrize(
    'local_rank, expected', [(0, ['task', 'barrier']), (1, ['barrier', 'task'])]
)
def test_order_of_task_and_barrier(monkeypatch, local_rank, expected):
    events = []
    monkeypatch.setenv('LOCAL_RANK', str(local_rank))
    monkeypatch.setattr(dist, 'barrier', lambda: events.append('barrier'))
    assert first_on_node(lambda: events.append('task') or 7) == 7
    assert events == expected


def test_rank_stands_in_where_no_launcher_names_the_local_one(monkeypatch):
    events = []
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    monkeypatch.setattr(dist, 'get_rank', lambda: 3)
    monkeypatch.setattr(dist, 'barrier', lambda: events.append('barrier'))
    first_on_node(lambda: events.append('task'))
    assert events == ['barrier', 'task']
