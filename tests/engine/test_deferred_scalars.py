import copy
import pickle
import uuid

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub

from mmkdfuse.checkpoint import pack_resume_state, unpack_resume_state
from mmkdfuse.engine import deferred_scalars
from mmkdfuse.engine.deferred_scalars import DeferredHistory, DeferredScalars, defer_history


@pytest.fixture
def hub():
    return MessageHub.get_instance(f'deferred_{uuid.uuid4().hex}')


@pytest.fixture
def reads(monkeypatch):
    """Shapes of what was brought to the host."""
    shapes, to_host = [], deferred_scalars.to_host
    monkeypatch.setattr(
        deferred_scalars, 'to_host', lambda v: shapes.append(tuple(v.shape)) or to_host(v)
    )
    return shapes


def assert_same(history, reference):
    for ours, theirs in zip(history.data, reference.data, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


@pytest.mark.parametrize('max_length', [4, 1000])
@pytest.mark.parametrize('start', [[], [0.5], [0.5, 1.5, 2.5, 3.5]])
def test_a_history_equals_mmengines(start, max_length):
    reference = HistoryBuffer(start, [1] * len(start), max_length)
    history = DeferredHistory(reference)
    for value, count in [(3.0, 1), (-2, 4), (7.25, 2)]:
        for each in (history, reference):
            each.update(value, count)
        assert history.current() == reference.current()
    for window in (1, 2, 3, None):
        for method in ('mean', 'min', 'max'):
            arguments = () if window is None else (window,)
            assert history.statistics(method, *arguments) == reference.statistics(
                method, *arguments
            )
    np.testing.assert_array_equal(history.data[0], reference.data[0])
    np.testing.assert_array_equal(history.data[1], reference.data[1])


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h))])
def test_a_copy_is_a_plain_history(copied):
    history = DeferredHistory(HistoryBuffer([1.0], [1], 7))
    history.update(2.0)
    copied = copied(history)
    assert type(copied) is HistoryBuffer and copied.max_length == 7
    history.update(3.0)
    assert copied.data[0].tolist() == [1.0, 2.0]
    assert history.data[0].tolist() == [1.0, 2.0, 3.0]


def test_a_checkpoint_holds_what_was_recorded(hub):
    scalars = DeferredScalars(hub)
    scalars.add({'train/loss': torch.tensor(2.0)})
    scalars.add({'train/loss': torch.tensor(4.0)})
    state = unpack_resume_state(pack_resume_state(hub.state_dict()))
    assert state['log_scalars']['train/loss'].data[0].tolist() == [2.0, 4.0]
    assert state['resumed_keys']['train/loss'] is True


def test_bad_values_are_refused():
    with pytest.raises(TypeError, match='not str and int'):
        DeferredHistory().update('1')


def test_values_come_in_one_transfer_when_one_of_them_is_read(hub, reads):
    scalars = DeferredScalars(hub)
    for i in range(5):
        scalars.add({'a': torch.tensor(float(i)), 'b': torch.tensor([10 * i])})
    assert reads == []
    assert hub.get_scalar('b').mean(2) == 35.0
    assert hub.get_scalar('a').data[0].tolist() == [0, 1, 2, 3, 4]
    assert reads == [(10,)]


def test_values_are_those_of_the_moment_and_keep_no_graph(hub):
    scalars = DeferredScalars(hub)
    value = torch.tensor(1.0, requires_grad=True)
    reused = value * 2
    scalars.add({'a': reused})
    with torch.no_grad():
        reused.fill_(100.0)
    ((_, row),) = scalars._rows
    assert not row.requires_grad
    assert hub.get_scalar('a').current() == 2.0


def test_keys_may_change_and_types_differ(hub):
    scalars = DeferredScalars(hub)
    scalars.add({'a': torch.tensor(1.0)})
    scalars.add({'a': torch.tensor(0.1, dtype=torch.bfloat16), 'b': torch.tensor(3)})
    scalars.add({})
    scalars.add({'b': torch.tensor(0.1, dtype=torch.float64)})
    scalars.add({'a': torch.tensor(0.1)})
    narrow = [torch.tensor(0.1, dtype=kind).item() for kind in (torch.bfloat16, torch.float32)]
    assert hub.get_scalar('a').data[0].tolist() == [1.0, *narrow]
    assert hub.get_scalar('b').data[0].tolist() == [3.0, 0.1]


def test_no_value_is_rounded_to_the_type_of_another(hub):
    scalars = DeferredScalars(hub)
    for kind, count in (
        (torch.bfloat16, 1001),
        (torch.float16, 70_000),
        (torch.float32, 2**24 + 1),
    ):
        scalars.add({'loss': torch.tensor(2.0, dtype=kind), 'number': torch.tensor(count)})
    assert hub.get_scalar('number').data[0].tolist() == [1001, 70_000, 2**24 + 1]


def test_keys_that_alternate_are_read_together_and_keep_their_histories(hub, reads):
    scalars = DeferredScalars(hub)
    for i in range(6):
        scalars.add({'a' if i % 2 else 'b': torch.tensor(float(i)), 'loss': torch.tensor(-1.0)})
        held = hub.log_scalars['loss']
    assert reads == [] and held is hub.log_scalars['loss']
    assert hub.get_scalar('a').data[0].tolist() == [1, 3, 5]
    assert reads == [(12,)]


def test_tensors_and_numbers_under_one_key_keep_their_order(hub):
    scalars = DeferredScalars(hub)
    scalars.add({'a': torch.tensor(1.0)})
    hub.update_scalar('a', 2.0)
    scalars.add({'a': torch.tensor(3.0)})
    assert hub.get_scalar('a').data[0].tolist() == [1, 2, 3]


def test_what_nobody_reads_is_read_at_the_limit(hub, reads):
    scalars = DeferredScalars(hub, limit=3)
    for i in range(7):
        scalars.add({'a': torch.tensor(float(i))})
    assert reads == [(3,), (3,)]
    assert hub.get_scalar('a').data[0].tolist() == list(range(7))


def test_a_known_history_goes_on_and_others_can_write_it(hub):
    hub.update_scalar('a', 1.0)
    defer_history(hub, 'a')
    hub.update_scalar('a', 2.0, 3)
    assert isinstance(hub.get_scalar('a'), DeferredHistory)
    assert hub.get_scalar('a').data[1].tolist() == [1, 3]
    DeferredScalars(hub).add({'a': torch.tensor(5.0)})
    hub.load_state_dict({'log_scalars': {}, 'runtime_info': {}, 'resumed_keys': {}})
    assert hub.get_scalar('a').data[0].tolist() == [1.0, 2.0, 5.0]
