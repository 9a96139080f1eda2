"""Maps before the activation, cut off at margins of the teacher's batch norms."""

import importlib

import pytest
import torch
from torch import nn


@pytest.mark.parametrize('mean', [-3.0, -0.4, 0.0, 0.7])
def test_margin_is_the_mean_of_what_is_negative(project, mean):
    norm = nn.BatchNorm2d(1)
    norm.requires_grad_(False)
    norm.weight.fill_(-1.5)
    norm.bias.fill_(mean)
    x = torch.linspace(mean - 15, 0, 200001, dtype=torch.float64)
    density = torch.exp(-((x - mean) ** 2) / (2 * 1.5**2))
    expected = (x * density).sum() / density.sum()
    margin = importlib.import_module('margin').margin
    assert margin(norm).item() == pytest.approx(expected.item(), rel=1e-3)


def test_margins_are_those_of_the_weights_that_were_loaded(build, images, labels):
    model = build('margin')
    margin = importlib.import_module('margin').margin
    backbone = model.teachers[0].network.backbone
    norms = [getattr(backbone, f'layer{stage}')[-1].bn2 for stage in (1, 2, 3, 4)]
    step = model.step(images, labels)
    regressors, distance = model.losses.MarginLoss.regressors, 0
    for stage, (regressor, norm) in enumerate(zip(regressors, norms, strict=True), start=1):
        ours = regressor(step.student.before_activation(stage))
        maps = step.teachers[0].before_activation(stage)
        torch.testing.assert_close(maps.relu(), backbone(images)[stage - 1])
        theirs = maps.maximum(margin(norm)[:, None, None])
        silent = (ours <= theirs) & (theirs <= 0)
        squares = (ours - theirs).pow(2).masked_fill(silent, 0).sum(dim=(1, 2, 3))
        distance += squares.mean() / 2 ** (4 - stage)
    torch.testing.assert_close(model.terms_of(step)['loss_margin'], 1e-3 * distance)


def test_nothing_of_the_teacher_becomes_part_of_the_loss(build):
    names = {name.split('.')[0] for name in build('margin').losses.MarginLoss.state_dict()}
    assert names == {'regressors'}
