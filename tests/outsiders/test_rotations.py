"""Branches with joint labels, views, and a branched teacher that teaches by all its heads."""

import pytest
import torch
import torch.nn.functional as F

import mmkdfuse
from mmkdfuse.engine.config_check import check_config
from mmkdfuse.engine.preflight import ConfigError, preflight
from mmkdfuse.models.losses import soft_kl

HEADS = ['branch1', 'branch2', 'branch3', 'main']


def rotated(images):
    return torch.cat([images.rot90(turns, (2, 3)) for turns in range(4)])


def test_terms_are_the_formulas(build, images, labels):
    model = build('rotations')
    terms = model(images, labels, mode='loss')
    assert set(terms) == {'loss_ce_main', 'loss_joint', 'loss_heads'}
    with torch.no_grad():
        ours, theirs = (network(rotated(images)) for network in (model, model.teachers[0].network))
    assert [logits.shape[1] for logits in theirs] == [40, 40, 40, 10]
    joint = torch.tensor([4 * label + turns for turns in range(4) for label in labels.tolist()])
    expected = dict(
        loss_ce_main=F.cross_entropy(ours[-1][:4], labels),
        loss_joint=sum(F.cross_entropy(logits, joint) for logits in ours[:-1]),
        loss_heads=9 * soft_kl(theirs[-1][:4], ours[-1][:4], 3.0)
        + 9 * sum(soft_kl(*pair, 3.0) for pair in zip(theirs[:-1], ours[:-1], strict=True)),
    )
    torch.testing.assert_close(terms, expected)


def test_a_branched_student_of_a_distiller_keeps_its_views(project, images, labels):
    cfg = project.changed('rotations', {'model.teacher.checkpoint': None})
    joint, same = cfg.model.losses
    student = {key: cfg.model[key] for key in ('type', 'backbone', 'branch_classes', 'views')}
    cfg.model = dict(
        type='Distiller',
        student=dict(student, losses=[joint]),
        teacher=cfg.model.teacher,
        num_classes=10,
        image_size=32,
        losses=[same],
    )
    assert check_config(cfg) == []
    model = mmkdfuse.load(cfg)
    assert model.step(images, labels).num_views == 4
    assert set(model(images, labels, mode='loss')) == {'loss_ce_main', 'loss_joint', 'loss_heads'}


def test_only_heads_of_the_classes_are_scored_and_ship(build):
    model = build('rotations')
    assert list(model.head_names) == HEADS
    assert model.scored_heads == model.heads() == ('main',)


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'model.branch_classes': 10}, 'JointLabelLoss: branch_classes=10, expected 40.'),
        ({'model.teacher.branch_classes': 10}, 'SameHeadsKLLoss: teacher with heads {'),
    ],
)
def test_heads_that_do_not_fit_are_refused(project, changes, sentence):
    with pytest.raises(ConfigError) as error:
        preflight(project.changed('rotations', changes), data=False)
    (mistake,) = error.value.mistakes
    assert mistake.startswith(f'`model`: {sentence}')
