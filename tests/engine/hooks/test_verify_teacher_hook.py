"""Accuracy of teachers before training: one that guesses stops, shares add up, resumes are left."""

import logging
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmkdfuse.engine.hooks import VerifyTeacherHook
from mmkdfuse.engine.hooks.verify_teacher_hook import chance_level
from mmkdfuse.models import Trainable
from mmkdfuse.models.teachers import attach
from mmkdfuse.structures import NetworkOutput, TapKeys

K, IMAGES = 10, 53


class Oracle(nn.Module):
    """Knows the label of an image, which is its mean; wrong for every label below ``wrong``."""

    checkpoint = 'teacher.pth'

    def __init__(self, name, wrong=0):
        super().__init__()
        self.name, self.wrong, self.seen = name, wrong, 0

    def forward(self, images, taps):
        assert taps == TapKeys(logits=('main',))  # whatever the losses read
        self.seen += len(images)
        labels = images.mean(dim=(1, 2, 3)).round().long()
        labels = torch.where(labels < self.wrong, labels + 1, labels)
        return NetworkOutput(1, {}, {}, dict(main=nn.functional.one_hot(labels, K).float()))


class Model(Trainable):
    num_classes = K

    def __init__(self, *teachers, verify=True):
        nn.Module.__init__(self)
        attach(self, teachers)
        self.verify_teacher = verify
        self.checked = 0

    def data_preprocessor(self, batch, training):
        assert training is False
        return dict(inputs=batch['inputs'].float(), data_samples=batch['labels'])

    def check_teachers(self):
        self.checked += 1

    def extract_feat(self, inputs):
        raise NotImplementedError


def batches(indices, size=20):
    labels = torch.tensor(indices) % K
    images = labels.to(torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
    rows = zip(images.split(size), labels.split(size), strict=True)
    return [dict(inputs=image, labels=label) for image, label in rows]


class Loader:
    """Batches of one process's share, filled up as by DefaultSampler."""

    def __init__(self, rank=0, world=1):
        total = -(-IMAGES // world) * world
        indices = [*range(IMAGES), *range(IMAGES)][:total]
        self.batches, self.dataset = batches(indices[rank::world]), range(IMAGES)

    def __iter__(self):
        return iter(self.batches)


@pytest.fixture
def runner(caplog):
    """Stands in for mmengine's: the hook reads these attributes only."""
    logger = logging.getLogger('verify')
    caplog.set_level(logging.INFO, 'verify')
    loader = Loader()
    return SimpleNamespace(logger=logger, iter=0, val_loop=object(), val_dataloader=loader)


def test_every_teacher_is_scored_and_logged(runner, caplog):
    runner.model = Model(Oracle('first'), Oracle('second', wrong=4))
    VerifyTeacherHook().before_train(runner)
    wrong = sum(index % K < 4 for index in range(IMAGES))
    assert 'teacher first: 100.00 % (' in caplog.text
    assert f'teacher second: {100 * (1 - wrong / IMAGES):.2f} % (' in caplog.text
    assert [teacher.seen for teacher in runner.model.teachers] == [IMAGES, IMAGES]


def test_one_that_guesses_stops_the_run(runner):
    runner.model = Model(Oracle('first'), Oracle('second', wrong=9))
    with pytest.raises(RuntimeError, match=r"teacher 'second' from 'teacher.pth' .* than 20.00 %"):
        VerifyTeacherHook().before_train(runner)


@pytest.mark.parametrize('change', ['iter', 'verify', 'val_loop'])
def test_nothing_is_scored_after_a_resume_or_when_told_so(runner, change, caplog):
    runner.model = Model(Oracle('first', wrong=9), verify=change != 'verify')
    if change == 'iter':
        runner.iter = 5
    if change == 'val_loop':
        runner.val_loop = None
    VerifyTeacherHook().before_train(runner)
    assert runner.model.teachers[0].seen == 0
    assert runner.model.checked == 1  # whose classifier it is counts always
    assert ('no validation set' in caplog.text) == (change == 'val_loop')


def test_models_without_teachers_are_left_alone(runner):
    for model in (nn.Linear(2, 2), Model()):
        runner.model = model
        VerifyTeacherHook().before_train(runner)
    assert model.checked == 0


def test_shares_of_several_processes_add_up(runner, monkeypatch):
    """Images that only fill up the shares do not count."""
    module = 'mmkdfuse.engine.hooks.verify_teacher_hook'
    counts = []
    monkeypatch.setattr(f'{module}.all_reduce', lambda tensor: counts.append(tensor.clone()))
    for rank in range(4):
        monkeypatch.setattr(f'{module}.get_rank', lambda rank=rank: rank)
        monkeypatch.setattr(f'{module}.get_world_size', lambda: 4)
        runner.model = Model(Oracle('teacher', wrong=4))
        runner.val_dataloader = Loader(rank, 4)
        VerifyTeacherHook().before_train(runner)
    right = sum(index % K >= 4 for index in range(IMAGES))
    assert torch.stack(counts).sum(dim=0).tolist() == [right, IMAGES]


@pytest.mark.parametrize(
    ('classes', 'level'), [(2, 0.625), (3, 0.5), (5, 0.4), (10, 0.2), (100, 0.02), (200, 0.01)]
)
def test_chance_level(classes, level):
    assert chance_level(classes) == pytest.approx(level)
