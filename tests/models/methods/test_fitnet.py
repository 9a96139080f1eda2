"""The regressor of FitNet for all sizes, and its loss."""

import pytest
import torch
from reading import output_of
from tiny_networks import OTHER, SMALLER, TEACHER
from torch import nn

from mmkdfuse.models.losses.hint import HintRegressor


def regressors_of(model):
    return model.losses['HintLoss'].regressors


@pytest.mark.parametrize(
    ('own', 'goal', 'kind', 'kernel', 'result'),
    [
        (8, 4, nn.Conv2d, 3, 4),
        (4, 8, nn.ConvTranspose2d, 4, 8),
        (8, 8, nn.Conv2d, 1, 8),
        (8, 5, nn.Conv2d, 4, 5),
        (4, 16, nn.Conv2d, 3, 4),  # the teacher's map is pooled then
        (6, 8, nn.Conv2d, 3, 6),
    ],
)
def test_sizes_of_the_regressor(own, goal, kind, kernel, result):
    regressor = HintRegressor((3, own, own), (5, goal, goal))
    conv = regressor.layers[0]
    assert type(conv) is kind and conv.kernel_size == (kernel, kernel) and conv.bias is not None
    assert regressor(torch.randn(2, 3, own, own)).shape == (2, 5, result, result)


@pytest.mark.parametrize('stage', [1, 3])
@pytest.mark.parametrize('teacher', [TEACHER, [TEACHER, OTHER]])
def test_it_is_the_mean_squared_difference_of_the_stage(build, batch, stage, teacher):
    model = build('FitNet', teacher=teacher, stage=stage, hint_weight=7.0).eval()
    own = output_of(model, batch.images).stage(stage)
    expected = []
    for regressor, each in zip(regressors_of(model), model.teachers, strict=True):
        hint = each(batch.images).stage(stage)
        expected.append((regressor(own) - hint).square().mean())
    found = model(batch.images, batch.labels, mode='loss')['loss_hint']
    torch.testing.assert_close(found, 7 * torch.stack(expected).mean())


def test_the_teachers_map_is_pooled_where_no_regressor_reaches_its_size(build, batch):
    model = build('FitNet', student=SMALLER, stage=1, image_size=64).eval()  # 32 against 64
    assert isinstance(regressors_of(model)[0].layers[0], nn.ConvTranspose2d)
    regressors_of(model)[0] = HintRegressor((4, 8, 8), (8, 64, 64)).eval()  # keeps 32
    own = output_of(model, batch.images).stage(1)
    hint = model.teachers[0](batch.images).stage(1)
    pooled = nn.functional.avg_pool2d(hint, 2)
    found = model(batch.images, batch.labels, mode='loss')['loss_hint']
    torch.testing.assert_close(found, 100 * (regressors_of(model)[0](own) - pooled).square().mean())


def test_refused_arguments_are_named(build):
    with pytest.raises(ValueError, match='hint_weight=0 must be positive'):
        build('FitNet', hint_weight=0)
    with pytest.raises(ValueError, match='stage=4 must be from 1 to 3'):
        build('FitNet', stage=4)
