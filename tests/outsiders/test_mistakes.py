"""Mistakes in a config with a user's classes are named like those with ours."""

import pytest

from mmkdfuse.engine.config_check import check_config
from mmkdfuse.engine.preflight import ConfigError, preflight

NO_SUCH = '{} has no such argument; nearest valid name: {!r}'
UNKNOWN = 'not a {}; nearest valid name: {!r}'


@pytest.mark.parametrize(
    ('method', 'key', 'value', 'reason'),
    [
        ('attention', 'losses.0.wieght', 1.0, NO_SUCH.format('AttentionLoss', 'weight')),
        ('attention', 'losses.0.warmup', 5, NO_SUCH.format('AttentionLoss', 'warmup_epochs')),
        (
            'attention',
            'losses.0.type',
            'Atention',
            UNKNOWN.format('registered model', 'AttentionLoss'),
        ),
        ('rotations', 'views.type', 'Rotation', UNKNOWN.format('registered model', 'Rotations')),
        ('rotations', 'teacher.predict', 1, NO_SUCH.format('BranchedClassifier', 'predict_from')),
        ('taught_kfmsd', 'kd_wieght', 1.0, NO_SUCH.format('TaughtKFMSD', 'kd_weight')),
        ('taught_kfmsd', 'gama', 0.5, NO_SUCH.format('TaughtKFMSD', 'gamma')),
        ('ramped_kd', 'wieght', 1.0, NO_SUCH.format('RampedKD', 'weight')),
        ('ramped_kd', 'teacher.chekpoint', 'a', NO_SUCH.format('ResNet_CIFAR', 'checkpoint')),
        ('ramped_kd', 'teacher.arch', 'resnet188', UNKNOWN.format('known network', 'resnet18')),
    ],
)
def test_a_mistake_is_named(project, method, key, value, reason):
    cfg = project.changed(method, {f'model.{key}': value})
    path = key.replace('.0.', '[0].')
    assert check_config(cfg) == [f'`model.{path}` = {value!r}: {reason}.']


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'model.teacher': None}, 'AttentionLoss: teacher=None, expected at least one teacher'),
        (
            {'model.losses': [dict(type='BatchPreprocessor')]},
            'losses: BatchPreprocessor is no loss',
        ),
    ],
)
def test_a_mistake_that_building_shows_is_named(project, changes, sentence):
    with pytest.raises(ConfigError) as error:
        preflight(project.changed('attention', changes), data=False)
    (mistake,) = error.value.mistakes
    assert mistake.startswith(f'`model`: {sentence}')
