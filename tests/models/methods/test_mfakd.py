"""MFAKD and SimKD: losses by formula, the deployed path, several teachers, weights."""

import copy

import numpy as np
import pytest
import torch
from reading import everything
from tiny_networks import OTHER, SMALLER, STUDENT, TEACHER, K
from torch.nn import functional as F

from mmkdfuse.models.connectors import mbca
from mmkdfuse.models.losses.alignment import root_mean_square

FINAL_CONV = dict(arch='shufflenet_v2', base_channels=8)


def maps_of(model, images):
    """Aligned map, the teacher's map and deployed logits, computed apart, as arrays."""
    with torch.no_grad():
        goal = model.teachers[0].network.backbone(images)[-1]
        own = model.backbone(images)[-1]
        aligned = model.neck.connector(own, tuple(goal.shape[2:]))
        logits = model.head((aligned.mean(dim=(2, 3)),))
    return [each.double().numpy() for each in (aligned, goal, logits)]


def smooth_l1(difference):
    size = np.abs(difference)
    return np.where(size < 1, 0.5 * size**2, size - 0.5).mean()


def cross_entropy(logits, labels):
    log_sums = np.log(np.exp(logits).sum(axis=1))
    return (log_sums - logits[range(len(labels)), labels]).mean()


FORMULAS = {
    'mse': lambda a, t: np.square(a - t).mean(),
    'smooth_l1': lambda a, t: smooth_l1(a - t),
    'rmse': lambda a, t: np.sqrt(np.square(a - t).mean()),
}


@pytest.mark.parametrize('student', [STUDENT, SMALLER])
@pytest.mark.parametrize('loss', FORMULAS)
@pytest.mark.parametrize('beta', [0.0, 0.4])
def test_distances_are_their_formulas(build, batch, student, loss, beta):
    model = build('MFAKD', student=student, loss=loss, alpha=3.0, beta=beta).eval()
    aligned, goal, logits = maps_of(model, 4 * batch.images)
    assert aligned.shape == goal.shape
    terms = model(4 * batch.images, batch.labels, mode='loss')
    expected = 3.0 * FORMULAS[loss](aligned, goal)
    assert terms['loss_align'].item() == pytest.approx(expected, rel=1e-4)
    assert set(terms) == ({'loss_align', 'loss_ce'} if beta else {'loss_align'})
    if beta:
        expected = beta * cross_entropy(logits, batch.labels)
        assert terms['loss_ce'].item() == pytest.approx(expected, rel=1e-4)


def test_cross_entropy_of_the_deployed_logits_can_take_its_place(build, batch):
    model = build('MFAKD', loss='ce', alpha=2.0).eval()
    *_, logits = maps_of(model, batch.images)
    (term,) = model(batch.images, batch.labels, mode='loss').items()
    assert term[0] == 'loss_ce'
    assert term[1].item() == pytest.approx(2 * cross_entropy(logits, batch.labels), rel=1e-4)


def test_the_root_has_no_gradient_where_maps_are_equal(build):
    x = torch.ones(2, 3, requires_grad=True)
    root_mean_square(x, torch.ones(2, 3)).backward()
    assert torch.equal(x.grad, torch.zeros(2, 3))


@pytest.mark.parametrize('method', ['MFAKD', 'SimKD'])
def test_without_upsampling_the_target_is_pooled(build, batch, method):
    changes = dict(connector=dict(upsample=None)) if method == 'MFAKD' else {}
    model = build(method, student=SMALLER, **changes).eval()
    goal = F.avg_pool2d(model.teachers[0].network.backbone(batch.images)[-1], 2)
    aligned = model.neck.connector(model.backbone(batch.images)[-1], (8, 8))
    assert aligned.shape == goal.shape == (4, 32, 4, 4)
    found = model(batch.images, batch.labels, mode='loss')['loss_align']
    torch.testing.assert_close(found, (aligned - goal).square().mean())


def test_simkd_is_one_bottleneck_and_takes_changes(build):
    assert list(build('SimKD').neck.connector.branches) == ['bottleneck']
    assert build('SimKD').neck.connector.upsample is None
    changed = build('SimKD', connector=dict(reduction=4)).neck.connector
    assert list(changed.branches) == ['bottleneck'] and changed.upsample is None


def test_the_connector_runs_once_a_step(build, batch, monkeypatch):
    calls = []
    forward = mbca.MBCAConnector.forward
    monkeypatch.setattr(
        mbca.MBCAConnector, 'forward', lambda *args: (calls.append(1), forward(*args))[1]
    )
    build('MFAKD', beta=0.4)(batch.images, batch.labels, mode='loss')
    assert len(calls) == 1


@pytest.mark.parametrize('student', [STUDENT, SMALLER])
def test_predictions_are_the_teachers_classifier_on_the_aligned_map(build, batch, student):
    model = build('MFAKD', student=student).eval()
    *_, logits = maps_of(model, batch.images)
    np.testing.assert_allclose(model(batch.images).detach().numpy(), logits, rtol=1e-4, atol=1e-6)
    samples = model(batch.images, batch.labels, mode='predict')
    scores = torch.stack([sample.pred_score for sample in samples])
    torch.testing.assert_close(scores, model.deployed()(batch.images).softmax(dim=1))


@torch.no_grad()
def perturb(module):
    for parameter in module.parameters():
        parameter.add_(torch.randn(parameter.shape), alpha=0.5)


@pytest.mark.parametrize(
    ('part', 'matters'),
    [
        (lambda model: model.backbone, True),
        (lambda model: model.neck.connector, True),
        (lambda model: model.head, True),
        (lambda model: model.teachers[0].network.backbone, False),
        (lambda model: model.teachers[0], False),
    ],
    ids=['student', 'connector', 'classifier', 'teacher backbone', 'teacher'],
)
def test_only_the_deployed_path_is_scored(build, batch, part, matters):
    model = build('MFAKD').eval()
    before = model(batch.images, batch.labels, mode='predict')
    perturb(part(model))
    after = model(batch.images, batch.labels, mode='predict')
    same = [torch.equal(a.pred_score, b.pred_score) for a, b in zip(before, after, strict=True)]
    assert not any(same) if matters else all(same)


def test_the_students_own_top_is_not_built(build):
    model = build('MFAKD', student=FINAL_CONV)
    assert model.stage_shapes[-1][0] == 32  # not the final convolution's 1024
    assert not any('1024' in str(tuple(p.shape)) for p in model.parameters())
    assert model.head.fc.weight.shape == (K, 32)


def test_what_the_teacher_has_behind_its_map_is_reused(build, batch, checkpoint):
    model = build('MFAKD', teacher=checkpoint(FINAL_CONV))
    model.init_weights()
    model.train()
    assert not model.neck.teacher_neck.training
    teacher = model.teachers[0]
    goal = teacher(batch.images, everything(teacher))
    (feature,) = model.neck.teacher_neck((goal.stage(-1),))
    torch.testing.assert_close(model.head((feature,)), goal.logits)
    torch.testing.assert_close(goal.logits, teacher.network(batch.images))


def test_the_classifier_is_the_teachers_and_belongs_to_the_checkpoint(build, checkpoint):
    spec = checkpoint(TEACHER)
    model = build('MFAKD', teacher=spec)
    state = model.state_dict()
    assert {name.split('.')[0] for name in state} == {'backbone', 'neck', 'head'}
    model.init_weights()
    saved = torch.load(spec['checkpoint'], weights_only=True)['state_dict']
    for name in ('head.fc.weight', 'head.fc.bias'):
        assert torch.equal(model.state_dict()[name], saved[name])
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == [
        'head.fc.weight',
        'head.fc.bias',
    ]
    model.train()
    assert model.backbone.training and not model.head.training


def test_another_teacher_than_the_weights_have_is_refused(build, checkpoint):
    first = build('MFAKD', teacher=checkpoint(TEACHER, seed=3))
    first.init_weights()
    first.check_teachers()
    second = build('MFAKD', teacher=checkpoint(TEACHER, seed=4))
    second.init_weights()
    second.load_state_dict(first.state_dict())
    with pytest.raises(RuntimeError, match=r"teacher.checkpoint='.*teacher4.pth' has another"):
        second.check_teachers()
    assert not torch.equal(second.head.fc.bias, second.teachers[0].network.head.fc.bias)


def test_several_teachers(build, batch, checkpoint):
    specs = [checkpoint(TEACHER, seed=3), checkpoint(OTHER, seed=4)]
    model = build('MFAKD', teacher=specs, beta=0.5)
    model.init_weights()
    model.eval()
    model.check_teachers()
    own = model.backbone(batch.images)[-1]
    distances, logits = [], []
    for path, head, teacher in zip(
        model.student.paths, model.head.heads, model.teachers, strict=True
    ):
        assert torch.equal(head.fc.bias, teacher.network.head.fc.bias)
        aligned = path.connector(own, (8, 8))
        distances.append((aligned - teacher(batch.images).stage(-1)).square().mean())
        logits.append(head((aligned.mean(dim=(2, 3)),)))
    terms = model(batch.images, batch.labels, mode='loss')
    mean = torch.stack(logits).mean(dim=0)
    torch.testing.assert_close(terms['loss_align'], torch.stack(distances).mean())
    torch.testing.assert_close(terms['loss_ce'], 0.5 * F.cross_entropy(mean, batch.labels))
    torch.testing.assert_close(model(batch.images), mean)
    assert len(model.describe()) == 1 + 2 + 2


def test_copies_share_the_teacher_and_nothing_else(build, batch):
    model = build('MFAKD').eval()
    twin = copy.deepcopy(model)
    assert twin.teachers[0] is model.teachers[0]
    shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in twin.parameters()}
    assert not shared
    assert torch.equal(model(batch.images), twin(batch.images))


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        (dict(loss='l2'), "loss='l2' must be one of"),
        (dict(alpha=0), 'alpha=0 must be > 0'),
        (dict(beta=-1), 'beta=-1 >= 0'),
        (dict(connector=dict(upsample='cubic')), "upsample='cubic' must be one of"),
    ],
)
def test_refused_arguments_are_named(build, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        build('MFAKD', **changes)
