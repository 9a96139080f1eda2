"""Losses of BYOT, FKD, DML and RSD against their formulas written out with numpy."""

import numpy as np
import pytest
import torch
from reading import output_of

from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkOutput, Step

K = 7
LABELS = torch.tensor([0, 3, 6, 3])


@pytest.fixture
def build(tiny_backbone):
    def build_model(**cfg):
        torch.manual_seed(0)
        cfg = dict(dict(backbone=tiny_backbone, num_classes=K, image_size=32), **cfg)
        return MODELS.build(cfg).eval()

    return build_model


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def numbers(model, images):
    """Logits and features of every head in double precision."""
    output = output_of(model, images)
    return (
        [z.detach().double().numpy() for z in output.head_logits.values()],
        [f.detach().double().numpy() for f in output.head_features.values()],
    )


def softmax(z):
    e = np.exp(z)
    return e / e.sum(axis=1, keepdims=True)


def ce(z):
    return -np.log(softmax(z)[np.arange(4), LABELS.numpy()]).mean()


def kl(teacher, student, tau=1.0):
    p, q = softmax(teacher / tau), softmax(student / tau)
    return (p * np.log(p / q)).sum(axis=1).mean()


def values(terms):
    return [term.item() for term in terms.values()]


def test_byot_conference_form(build, images):
    model = build(
        type='BYOT', neck=dict(form='conference'), alpha=0.1, scale_by_tau2=True, adapters=False,
        exempt_deepest=False, feature_weight=0.01, feature_loss=dict(reduction='squared'),
    )  # fmt: skip
    z, f = numbers(model, images)
    terms = model(images, LABELS, mode='loss')
    heads = ['branch1', 'branch2', 'branch3', 'main']
    assert list(terms) == [*(f'loss_ce_{h}' for h in heads), 'loss_kl', 'loss_feature']
    assert values(terms) == pytest.approx(
        [
            *(0.9 * ce(b) for b in z[:3]),
            ce(z[3]),
            0.1 * 9 * sum(kl(z[3], b, 3) for b in z[:3]),
            0.01 * sum(((f[3] - b) ** 2).sum(axis=1).mean() for b in f[:3]),
        ],
        rel=1e-4,
    )


def test_byot_journal_form(build, images):
    model = build(type='BYOT')
    z, f = numbers(model, images)
    adapters = model.losses['BranchFeatureLoss'].adapters
    adapted = [
        b @ a.weight.detach().double().numpy().T + a.bias.detach().double().numpy()
        for a, b in zip(adapters, f[:2], strict=True)  # the deepest branch is exempt
    ]
    assert values(model(images, LABELS, mode='loss')) == pytest.approx(
        [
            *(0.7 * ce(b) for b in z[:3]),
            ce(z[3]),
            0.3 * sum(kl(z[3], b, 3) for b in z[:3]),
            0.03 * sum(np.linalg.norm(f[3] - b) for b in adapted),
        ],
        rel=1e-4,
    )


def test_the_main_network_of_byot_is_not_taught(build, images):
    model = build(type='BYOT')
    terms = model(images, LABELS, mode='loss')
    (terms['loss_kl'] + terms['loss_feature']).backward()
    assert model.head.main.fc.weight.grad is None
    assert all(p.grad is None for p in model.backbone.layer4.parameters())
    assert model.head.branches[0].weight.grad.any()


def test_byot_without_its_extras_builds_no_adapters(build, images):
    model = build(type='BYOT', feature_weight=0.0, alpha=0.0)
    assert list(model.losses) == ['ClassificationLoss']
    assert not any('adapters' in name for name in model.state_dict())
    assert [name[:8] for name in model(images, LABELS, mode='loss')] == ['loss_ce_'] * 4


def test_byot_with_one_branch_has_nothing_left_to_pull(build, images, tiny_backbone):
    model = build(type='BYOT', backbone=dict(tiny_backbone, out_indices=(1, 3)))
    assert 'loss_feature' not in model(images, LABELS, mode='loss')


def test_fkd(build, images):
    model = build(type='FKD')
    z, f = numbers(model, images)
    students = [*z[:3], z[4]]
    terms = model(images, LABELS, mode='loss')
    assert list(terms)[3:5] == ['loss_ce_branch4', 'loss_ce_main']
    assert values(terms) == pytest.approx(
        [
            *(0.7 * ce(b) for b in z[:3]),
            ce(z[3]),
            0.7 * ce(z[4]),
            0.3 * sum(kl(z[3], s, 3) for s in students),
            0.03 * sum(np.linalg.norm(f[3] - s) for s in [*f[:3], f[4]]),
        ],
        rel=1e-4,
    )


def test_the_fused_classifier_of_fkd_learns_from_labels_only(build, images):
    model = build(type='FKD')
    terms = model(images, LABELS, mode='loss')
    (terms['loss_kl'] + terms['loss_feature']).backward()
    assert model.head.branches[-1].weight.grad is None
    assert all(p.grad is None for p in model.neck.fusion.parameters())
    assert model.head.main.fc.weight.grad.any()


@pytest.mark.parametrize('peers', [1, 2])
def test_dml(build, images, peers):
    model = build(type='DML', peers=peers)
    z, _ = numbers(model, images)
    pairs = [(p, q) for i, p in enumerate(z) for j, q in enumerate(z) if i != j]
    expected = [*map(ce, z), sum(kl(p, q) for p, q in pairs) / peers]
    assert values(model(images, LABELS, mode='loss')) == pytest.approx(expected, rel=1e-4)


def test_peers_of_dml_start_apart_and_may_differ(build, images, tiny_backbone):
    model = build(type='DML', peers=[tiny_backbone, dict(tiny_backbone, base_channels=8)])
    model.init_weights()
    first, own = model.peers[0].backbone, model.backbone
    assert not torch.equal(first.conv1.weight, own.conv1.weight)
    assert [z.shape for z in model(images)] == [(4, K)] * 3
    assert 'branch2, a peer: stage shapes (C x H x W): 8x32x32' in model.describe()[-1]


def test_the_peer_that_teaches_in_dml_is_a_constant(build, images):
    model = build(type='DML')
    logits = [z.detach().requires_grad_() for z in model(images)]
    output = NetworkOutput(4, {}, {}, dict(zip(model.head_names, logits, strict=True)))
    terms = model.terms_of(Step(images, LABELS, None, 0, 0, output, ()))
    terms['loss_kl'].backward()
    p, q = (torch.softmax(z, dim=1) for z in logits)
    torch.testing.assert_close(logits[0].grad, ((p - q) / 4).detach())


def test_rsd_teaches_the_main_network_only(build, images):
    model = build(type='KFMSD', neck=dict(fuse='none'), mutual_loss=dict(direction='to_main'))
    z, _ = numbers(model, images)
    term = model(images, LABELS, mode='loss')['loss_mutual_kl']
    assert term.item() == pytest.approx(0.7 * sum(kl(b, z[3], 3) for b in z[:3]), rel=1e-4)
    term.backward()
    assert model.head.main.fc.weight.grad.any()
    assert all(branch.weight.grad is None for branch in model.head.branches)


@pytest.mark.parametrize(
    ('cfg', 'sentence'),
    [
        (dict(type='BYOT', alpha=1.5), r'BYOT: alpha=1.5 must be in \[0, 1\]'),
        (dict(type='BYOT', tau=0), 'BYOT: tau=0 must be positive'),
        (dict(type='BYOT', feature_weight=-1), 'BYOT: feature_weight=-1 must not be negative'),
        (dict(type='FKD', alpha=-1), r'FKD: alpha=-1 must be in \[0, 1\]'),
        (dict(type='FKD', tau=-1), 'FKD: tau=-1 must be positive'),
        (dict(type='FKD', feature_weight=-1), 'FKD: feature_weight=-1 must not be negative'),
        (dict(type='DML', peers=0), 'DML: peers=0 must be a number from 1'),
        (dict(type='DML', peers=[]), r'DML: peers=\[\] must be a number from 1'),
        (dict(type='DML', tau=0), 'DML: tau=0 must be positive'),
        (dict(type='DML', weight=-1), 'DML: weight=-1 must not be negative'),
        (dict(type='DML', predict_from='branch2'), "DML: predict_from='branch2' must be one of"),
        (
            dict(type='KFMSD', mutual_loss=dict(direction='up')),
            "MutualKLLoss: direction='up' must be one of",
        ),
    ],
)
def test_refused_arguments_are_named(build, cfg, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(**cfg)
