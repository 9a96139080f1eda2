"""KFMSD with a teacher: one file adds one loss to all that KFMSD is."""

import torch

from mmkdfuse.models.losses import soft_kl


def test_all_heads_learn_from_the_teacher(build, images, labels):
    model = build('taught_kfmsd')
    step = model.step(images, labels)
    terms = model.terms_of(step)
    assert len(step.student.head_logits) == 4
    taught = [
        soft_kl(step.teachers[0].logits, logits, 4.0)
        for logits in step.student.head_logits.values()
    ]
    torch.testing.assert_close(terms.pop('loss_kd'), 16 * sum(taught))
    heads = [f'loss_ce_{head}' for head in step.student.head_logits]
    assert set(terms) == {*heads, 'loss_mutual_kl', 'loss_feature'}


def test_every_head_is_scored(run_of):
    assert {'main/top1', 'branch1/top1', 'ensemble/top1'} <= set(run_of('taught_kfmsd').metrics)
