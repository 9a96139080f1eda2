"""Attention transfer from outside: the formula, and networks that do not fit."""

import pytest
import torch

from mmkdfuse.engine.preflight import ConfigError, preflight


def test_attention_is_compared_at_every_stage(build, images, labels):
    model = build('attention')
    step = model.step(images, labels)
    pairs = list(zip(step.student.stages, step.teachers[0].stages, strict=True))
    assert len(pairs) == 4
    expected = 0
    for pair in pairs:
        ours, theirs = (maps.pow(2).mean(1).flatten(1) for maps in pair)
        ours, theirs = (each / each.norm(dim=1, keepdim=True) for each in (ours, theirs))
        expected += 1000 * (ours - theirs).pow(2).mean()
    terms = model.terms_of(step)
    assert set(terms) == {'loss_ce', 'loss_attention'}
    torch.testing.assert_close(terms['loss_attention'], expected)


def test_networks_with_stages_of_other_sizes_are_refused(project):
    changes = {'model.teacher': dict(_delete_=True, arch='vgg8')}
    with pytest.raises(ConfigError) as error:
        preflight(project.changed('attention', changes), data=False)
    (mistake,) = error.value.mistakes
    assert mistake.startswith('`model`: AttentionLoss: stages of one size in all networks, not ')
