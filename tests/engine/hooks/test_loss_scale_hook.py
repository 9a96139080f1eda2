"""The report on the scale of a loss: when it comes, and that it changes nothing."""

import logging
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import mmkdfuse
from mmkdfuse.engine.hooks.loss_scale_hook import LossScaleHook


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


def test_epochs_of_the_reports():
    assert LossScaleHook().epochs(200) == [1, 50, 100, 180]
    assert LossScaleHook(shares=()).epochs(5) == [1]
    with pytest.raises(ValueError, match=r'shares=\(1.5,\) must lie in'):
        LossScaleHook(shares=(1.5,))
