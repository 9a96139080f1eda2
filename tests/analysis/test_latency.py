"""What is timed and under which conditions; how long it takes is not tested."""

import pytest
import torch
from torch import nn

from mmkdfuse.analysis.latency import Latency, compare_latency, measure_latency


class Spy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1).double()
        self.seen = []

    def forward(self, x):
        self.seen.append((tuple(x.shape), x.dtype, self.training, torch.is_grad_enabled()))
        return self.conv(x)


@pytest.mark.parametrize(
    ('shape', 'batch'), [((3, 4, 5), (1, 3, 4, 5)), ((7, 3, 2, 2), (7, 3, 2, 2))]
)
def test_passes_are_in_eval_mode_without_gradients(shape, batch):
    spy = Spy()
    latency = measure_latency(spy, shape, seconds=1e-6)
    assert set(spy.seen) == {(batch, torch.float64, False, False)}
    assert len(spy.seen) > latency.runs >= 5  # the warm-up is not counted
    assert latency.batch_size == batch[0] and latency.device == 'cpu'
    assert latency.threads == torch.get_num_threads()
    assert latency.milliseconds > 0


def test_modes_are_as_before():
    spy = Spy()
    spy.conv.eval()
    measure_latency(spy, (3, 2, 2), seconds=1e-6)
    assert spy.training and not spy.conv.training


def test_networks_take_turns():
    order = []
    models = {name: nn.Identity() for name in 'ab'}
    for name, model in models.items():
        model.register_forward_hook(lambda *_, name=name: order.append(name))
    latencies = compare_latency(models, (3, 2, 2), seconds=1e-6)
    assert list(latencies) == ['a', 'b']
    timed = latencies['a'].runs
    assert timed == latencies['b'].runs and order[-2 * timed :] == ['a', 'b'] * timed


def test_the_median_counts(monkeypatch):
    taken = iter([9.0] * 3 + [0.004, 0.001, 0.002, 5.0, 0.003])
    monkeypatch.setattr('mmkdfuse.analysis.latency._timed', lambda *_: next(taken))
    latency = measure_latency(nn.Identity(), (3, 2, 2), seconds=1e-9)
    assert latency.milliseconds == pytest.approx(3.0) and latency.runs == 5


def test_text():
    text = str(Latency(1.234, runs=8, batch_size=1, threads=2, device='cpu'))
    assert text == '1.23 ms (median of 8 runs, batch size 1, 2 CPU thread(s), cpu)'


@pytest.mark.parametrize('shape', [(32, 32), (3, 0, 32), (1, 1, 3, 32, 32)])
def test_refuses_a_shape_that_is_no_image(shape):
    with pytest.raises(ValueError, match='input_shape='):
        measure_latency(nn.Identity(), shape)


def test_refuses_no_time():
    with pytest.raises(ValueError, match='seconds=0 must be positive'):
        measure_latency(nn.Identity(), (3, 2, 2), seconds=0)
