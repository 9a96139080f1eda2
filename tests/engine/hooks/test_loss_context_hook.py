"""What losses are told of a run, and when nothing is read for it."""

import pytest
from mmengine.runner import Runner

import mmkdfuse
from mmkdfuse.engine.hooks.loss_context_hook import LossContextHook


def test_testing_builds_no_training_set(trained, tmp_path, monkeypatch):
    def build_train_loop(*_):
        raise AssertionError('the training loop is built')

    monkeypatch.setattr(Runner, 'build_train_loop', build_train_loop)
    metrics = mmkdfuse.test(
        trained.config, trained.checkpoint, work_dir=tmp_path, cfg_options=trained.options
    )
    assert metrics['main/top1'] == pytest.approx(trained.metrics['main/top1'])


@pytest.mark.parametrize('images', [0, 2.5])
def test_other_numbers_of_images_are_refused(images):
    with pytest.raises(ValueError, match=f'images={images} must be a positive integer'):
        LossContextHook(images)
