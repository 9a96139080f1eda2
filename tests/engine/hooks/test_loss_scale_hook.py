"""The report on the scale of a loss: when it comes, and that it changes nothing."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

import mmkdfuse
from mmkdfuse.engine.hooks.loss_scale_hook import LossScaleHook
from mmkdfuse.models import Classifier, Loss
from mmkdfuse.structures import Reads, Taps


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    from mmkdfuse.models import Classifier

    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    arch = dict(arch='resnet8x4', base_channels=8, stem_channels=4)
    torch.manual_seed(0)
    torch.save(dict(state_dict=Classifier(arch, 10, 32).state_dict()), path)
    return dict(**arch, checkpoint=str(path))


CONFIG = Path(__file__).resolve().parents[3] / 'configs' / 'quickstart' / 'kfmsd_digits.py'


def train(tiny_options, work_dir, teacher, caplog, **changes):
    options = {k: v for k, v in tiny_options.items() if not k.startswith('model.')}
    cfg = Config.fromfile(CONFIG)
    cfg.model = dict(
        type='MFAKD',
        student=dict(arch='resnet8x4', base_channels=4, stem_channels=4),
        teacher=teacher,
        num_classes=10,
        image_size=32,
        verify_teacher=False,
        normalize='variance',
    )
    cfg.val_evaluator = cfg.test_evaluator = dict(type='Accuracy')
    cfg.default_hooks.checkpoint.save_best = None
    with caplog.at_level(logging.INFO):
        mmkdfuse.train(
            cfg, work_dir=work_dir, preflight=False, cfg_options={**options, 'log_level': 'INFO'},
            **changes,
        )  # fmt: skip
    log = next(work_dir.rglob('*.log')).read_text()
    weights = torch.load(work_dir / 'epoch_2.pth', weights_only=True)['state_dict']
    return log, weights


def test_it_reports_and_training_is_the_same_without_it(tiny_options, teacher, tmp_path, caplog):
    log, weights = train(tiny_options, tmp_path / 'with', teacher, caplog)
    lines = [line for line in log.splitlines() if 'loss scale after epoch' in line]
    assert len(lines) == 2  # the first epoch, and both later shares of two epochs
    assert all('loss_align' in line and 'times weight decay' in line for line in lines)
    assert all('(training)' in line and '(validation)' in line for line in lines)
    assert 'outputs were measured on 64 training images' in log
    plain, others = train(
        tiny_options, tmp_path / 'without', teacher, caplog, default_hooks=dict(loss_scale=None)
    )
    assert 'loss scale' not in plain
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


class Counting(Loss):
    """A loss that changes its memory in every step."""

    def __init__(self):
        super().__init__()
        self.reads = Reads(student=Taps(logits='main'))
        self.add_memory('steps', torch.zeros(1))

    def terms(self, step):
        self.memories['steps'] += 1
        return dict(loss_counting=step.student.logits.square().mean())


def test_memories_are_left_as_they_were():
    network = dict(arch='resnet8x4', base_channels=4, stem_channels=4)
    model = Classifier(network, 10, 32, losses=[Counting()])
    batch = dict(inputs=torch.randn(4, 3, 32, 32), data_samples=torch.arange(4))
    del model.data_preprocessor
    model.data_preprocessor = lambda data, training: data
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    runner = SimpleNamespace(optim_wrapper=SimpleNamespace(optimizer=optimizer), val_loop=None)
    report = LossScaleHook()._measure(runner, model, batch)
    assert report.gradients['loss_counting'] > 0
    assert model.memories()['Counting.steps'].item() == 0


def test_epochs_of_the_reports():
    assert LossScaleHook().epochs(200) == [1, 50, 100, 180]
    assert LossScaleHook(shares=()).epochs(5) == [1]
    with pytest.raises(ValueError, match=r'shares=\(1.5,\) must lie in'):
        LossScaleHook(shares=(1.5,))
