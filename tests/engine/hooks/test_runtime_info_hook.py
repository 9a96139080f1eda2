import json

import numpy as np
import pytest
import torch
from toy_training import ActAt, build_runner

from mmkdfuse.engine import OptimWrapper

CLIPPED = {
    'type': 'OptimWrapper',
    'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9},
    'clip_grad': {'max_norm': 0.5},
}
THEIRS = {'runtime_info': {'type': 'mmengine.RuntimeInfoHook'}}


def train(folder, mmengines=False, **kwargs):
    wrapper = {**CLIPPED, 'type': 'mmengine.OptimWrapper'} if mmengines else CLIPPED
    defaults = THEIRS if mmengines else {}
    runner = build_runner(folder, optim_wrapper=wrapper, default_hooks=defaults, **kwargs)
    runner.train()
    return runner


def histories(runner):
    scalars = runner.message_hub.log_scalars
    return {
        key: [part.tolist() for part in scalars[key].data]
        for key in scalars
        if not key.endswith('time')
    }


def lines_of(folder):
    (log,) = folder.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith('time')} for line in lines]


def test_histories_and_log_lines_equal_mmengines(tmp_path):
    ours = train(tmp_path / 'ours')
    theirs = train(tmp_path / 'theirs', mmengines=True)
    assert isinstance(ours.optim_wrapper, OptimWrapper)
    assert not isinstance(theirs.optim_wrapper, OptimWrapper)
    assert histories(ours) == histories(theirs)
    assert {'train/lr', 'train/loss', 'train/loss_x', 'train/grad_norm'} <= set(histories(ours))
    assert lines_of(tmp_path / 'ours') == lines_of(tmp_path / 'theirs')


def test_a_log_line_shows_the_mean_of_the_latest_ten_iterations(tmp_path):
    runner = train(tmp_path, validate=False)
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    shown = {line['iter']: line['loss'] for line in lines_of(tmp_path)}
    assert set(shown) == {2, 4, 7, 9, 12, 14, 17, 19}  # second and fourth of five batches
    for iteration, loss in shown.items():
        assert loss == pytest.approx(np.mean(losses[max(0, iteration - 10) : iteration]), abs=1e-9)


def test_histories_of_a_resumed_run_equal_those_of_one_without_stop(tmp_path):
    def fail():
        raise KeyboardInterrupt

    full = train(tmp_path / 'full', validate=False)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / 'parts', hooks=[ActAt(13, fail)], validate=False)
    resumed = train(tmp_path / 'parts', resume=True, validate=False)
    assert len(resumed.train_dataloader.dataset.loaded) == 40  # from the second epoch's file
    assert histories(resumed) == histories(full)
    saved = torch.load(tmp_path / 'parts' / 'epoch_4.pth', weights_only=True)
    scalars = saved['message_hub']['log_scalars']
    assert len(scalars['train/loss']['logs']) == len(scalars['train/time']['logs']) == 20


def test_numbers_are_logged_too(tmp_path):
    runner = build_runner(tmp_path, 1)
    step = runner.model.train_step

    def step_with_number(*args, **kwargs):
        return {**step(*args, **kwargs), 'share': 0.25, 'count': np.float32(3)}

    runner.model.train_step = step_with_number
    runner.train()
    assert runner.message_hub.get_scalar('train/share').data[0].tolist() == [0.25] * 5
    assert runner.message_hub.get_scalar('train/count').data[0].tolist() == [3.0] * 5
