"""A weight that grows with the epoch by a formula of its own, in a model class of its own."""

import inspect
import json
import math

import pytest
import torch

from mmkdfuse.models import Distiller
from mmkdfuse.registry import MODELS


def test_the_term_grows_by_the_formula(build, images, labels):
    model = build('ramped_kd')
    assert list(model.losses) == ['ClassificationLoss', 'RampedKDLoss']
    rows = []
    for epoch in range(5):
        model.set_progress(epoch, 5)
        rows.append(model(images, labels, mode='loss'))
    last = rows[-1]
    for epoch, terms in enumerate(rows, start=1):
        ramp = math.exp(-5 * (1 - epoch / 5) ** 2)
        assert terms['kd_weight'].item() == pytest.approx(2 * ramp)
        torch.testing.assert_close(terms['loss_kd'], ramp * last['loss_kd'])
        assert terms['loss_ce'] == last['loss_ce']


def test_a_run_tells_the_loss_its_epochs(run_of):
    (scalars,) = run_of('ramped_kd').work_dir.glob('*/vis_data/scalars.json')
    rows = map(json.loads, scalars.read_text().splitlines())
    weights = [row['kd_weight'] for row in rows if 'kd_weight' in row]
    assert weights == pytest.approx([2 * math.exp(-1.25)] * 4 + [2.0] * 4)


def test_it_is_a_short_subclass(project):
    project.changed('ramped_kd', {})
    preset = MODELS.get('RampedKD')
    assert issubclass(preset, Distiller)
    assert len(inspect.getsource(preset).splitlines()) <= 20
