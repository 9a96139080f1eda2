import io
import sys
import time

import pytest
from toy_training import ActAt, build_runner

from mmkdfuse.engine import ProgressHook


class Terminal(io.StringIO):
    def isatty(self):
        return True


def progress(runner, interval):
    hook = next(hook for hook in runner.hooks if isinstance(hook, ProgressHook))
    hook.interval = interval
    return hook


def test_line_on_a_terminal(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, 'stderr', terminal)
    runner = build_runner(tmp_path, 2, validate=False)
    progress(runner, 1e-9)
    filters = [list(handler.filters) for handler in runner.logger.handlers]
    runner.train()
    lines = terminal.getvalue().split('\r\x1b[K')
    drawn = [line for line in lines if line]
    assert len(drawn) == 10
    assert drawn[0].startswith('epoch 1/2  iteration 1/5  loss ')
    assert drawn[9].startswith('epoch 2/2  iteration 5/5  loss ')
    assert all('images/s' in line and line.endswith(' left') for line in drawn)
    assert drawn[9].endswith('0:00:00 left')
    assert lines[-1] == ''  # cleared at the end
    assert filters == [list(handler.filters) for handler in runner.logger.handlers]


def test_log_lines_clear_it_first(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, 'stderr', terminal)
    runner = build_runner(tmp_path, 1, validate=False)
    progress(runner, 1e-9)
    for handler in runner.logger.handlers:
        if type(handler).__name__ == 'StreamHandler':
            handler.setStream(terminal)
    runner.register_hook(ActAt(3, lambda: runner.logger.error('a message')))
    runner.train()
    before = terminal.getvalue().split('a message')[0].split('\n')[-1]
    assert before.rsplit('\r\x1b[K', 1)[1].startswith(time.strftime('%m/%d'))


def test_silent_elsewhere(tmp_path, capsys):
    runner = build_runner(tmp_path, 1, validate=False)
    progress(runner, 1e-9)
    runner.train()
    assert 'images/s' not in capsys.readouterr().err


def test_loss_is_read_no_more_often_than_the_interval(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, 'stderr', terminal)
    runner = build_runner(tmp_path, 1, validate=False)
    progress(runner, 1000)
    runner.train()
    assert 'images/s' not in terminal.getvalue()


def test_bad_interval():
    with pytest.raises(ValueError, match='interval=0'):
        ProgressHook(interval=0)
