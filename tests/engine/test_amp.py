import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmkdfuse.engine import BF16OptimWrapper, amp_optim_wrapper
from mmkdfuse.registry import OPTIM_WRAPPERS


class Recorder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.dtypes = []

    def forward(self, x):
        y = self.layer(x)
        self.dtypes.append(y.dtype)
        return y.float().square().mean()


def train(wrapper_type, steps=4, **kwargs):
    torch.manual_seed(0)
    model = Recorder()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = wrapper_type(optimizer=optimizer, **kwargs)
    wrapper.initialize_count_status(model, 0, steps)
    weights = []
    for _ in range(steps):
        with wrapper.optim_context(model):
            loss = model(torch.randn(8, 4))
        wrapper.update_params(loss)
        weights.append(model.layer.weight.detach().clone())
    return model, weights


def test_registered():
    assert OPTIM_WRAPPERS.get('BF16OptimWrapper') is BF16OptimWrapper


def test_forward_in_bfloat16_and_weights_in_float32():
    model, weights = train(BF16OptimWrapper)
    assert set(model.dtypes) == {torch.bfloat16}
    assert weights[-1].dtype == torch.float32
    reference, expected = train(OptimWrapper)
    assert set(reference.dtypes) == {torch.float32}
    torch.testing.assert_close(weights[-1], expected[-1], rtol=0.05, atol=0.02)
    assert not torch.equal(weights[-1], expected[-1])


def test_with_accumulation_and_clipping():
    _, weights = train(BF16OptimWrapper, accumulative_counts=2, clip_grad={'max_norm': 1e-3})
    assert torch.equal(weights[1], weights[2])  # the third gradient waits for the fourth
    step = (weights[3] - weights[2]).norm().item()
    assert 0 < step <= 0.1 * 1e-3 * 1.01  # at most lr * max_norm


@pytest.mark.parametrize('kind', ['OptimWrapper', 'AmpOptimWrapper', None])
def test_config_on_a_cpu(monkeypatch, kind):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    cfg = {'optimizer': {'type': 'SGD', 'lr': 0.1}, 'clip_grad': {'max_norm': 5}}
    if kind:
        cfg['type'] = kind
    if kind == 'AmpOptimWrapper':
        cfg.update(loss_scale=512.0, dtype='float16')
    before = dict(cfg)
    assert amp_optim_wrapper(cfg) == {
        'type': 'mmkdfuse.BF16OptimWrapper',
        'optimizer': {'type': 'SGD', 'lr': 0.1},
        'clip_grad': {'max_norm': 5},
    }
    assert cfg == before


def test_config_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    cfg = amp_optim_wrapper({'type': 'OptimWrapper', 'optimizer': {'type': 'SGD', 'lr': 0.1}})
    assert (cfg['type'], cfg['loss_scale']) == ('mmengine.AmpOptimWrapper', 'dynamic')
    kept = amp_optim_wrapper({'type': 'AmpOptimWrapper', 'loss_scale': 512.0})
    assert kept['loss_scale'] == 512.0


def test_unknown_wrapper():
    with pytest.raises(ValueError, match="optim_wrapper.type is 'ApexOptimWrapper'"):
        amp_optim_wrapper({'type': 'ApexOptimWrapper'})
