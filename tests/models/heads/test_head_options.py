"""The options of a head's config, wherever a head is configured, against formulas by hand."""

import copy

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample

from mmkdfuse.models import MFAKD, BranchedClassifier, Classifier, Distiller
from mmkdfuse.registry import MODELS

K, SIDE = 5, 16
NETWORK = dict(arch='resnet8x4', base_channels=4, stem_channels=4)
TEACHER = dict(arch='resnet8x4', base_channels=8, stem_channels=4)
LABELS = torch.tensor([0, 3, 4, 3])
SOFT = torch.tensor([[0.5, 0.5, 0, 0, 0], [0, 0, 0.3, 0.7, 0], [0, 0, 0, 0, 1.0], [0.2] * 5])
WEIGHTS = [1.0, 2.0, 0.5, 3.0, 1.5]
LINEAR = 'mmpretrain.LinearClsHead'


def classifier(head):
    return Classifier(NETWORK, K, SIDE, head=head)


def branched(head):
    return BranchedClassifier(NETWORK, K, SIDE, head=head)


def kfmsd(head):
    cfg = dict(type='KFMSD', backbone=NETWORK, num_classes=K, image_size=SIDE, head=head)
    return MODELS.build(dict(cfg, gamma=0.0))


def peers(head):
    return MODELS.build(
        dict(type='DML', backbone=NETWORK, num_classes=K, image_size=SIDE, head=head)
    )


def distiller(head):
    student = dict(type='mmkdfuse.Classifier', backbone=NETWORK, head=head)
    return Distiller(student, TEACHER, K, SIDE, kd_weight=1.0)


def distiller_of_foreign(head):
    backbone = dict(type='mmpretrain.ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4)
    student = dict(type='mmpretrain.ImageClassifier', backbone=backbone, head=head)
    return Distiller(student, TEACHER, K, SIDE, kd_weight=1.0)


def distiller_of_branched(head):
    student = dict(type='mmkdfuse.KFMSD', backbone=NETWORK, head=head, gamma=0.0)
    return Distiller(student, TEACHER, K, SIDE, kd_weight=1.0)


def aligned(head):
    student = dict(type='mmkdfuse.Classifier', backbone=NETWORK, head=head)
    return MFAKD(student, TEACHER, K, SIDE, beta=1.0)


PLACES = [
    classifier,
    branched,
    kfmsd,
    peers,
    distiller,
    distiller_of_foreign,
    distiller_of_branched,
    aligned,
]


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def one_hot(targets):
    return np.eye(K)[targets] if targets.ndim == 1 else targets


def smoothed(logits, targets, eps=0.1):
    rows = (1 - eps) * one_hot(targets) + eps / K
    return -(rows * log_softmax(logits)).sum(axis=1).mean()


def weighed(logits, targets):
    rows = one_hot(targets) * np.array(WEIGHTS)
    return -2 * (rows * log_softmax(logits)).sum(axis=1).mean()


def soft(logits, targets):
    return -(one_hot(targets) * log_softmax(logits)).sum(axis=1).mean()


def sigmoid_of_every_class(logits, targets):
    rows, p = one_hot(targets), 1 / (1 + np.exp(-logits))
    return -(rows * np.log(p) + (1 - rows) * np.log(1 - p)).sum(axis=1).mean()


def focal(logits, targets, gamma=1.5, alpha=0.4):
    rows, p = one_hot(targets), 1 / (1 + np.exp(-logits))
    right = np.where(rows == 1, p, 1 - p)
    factor = np.where(rows == 1, alpha, 1 - alpha) * (1 - right) ** gamma
    return -(factor * np.log(right)).sum(axis=1).mean()


def seesaw(logits, targets, p=0.8, q=2.0):
    """Eqs. 4-6 of the paper, after one batch; labels that were never seen count as once seen."""
    counts = np.maximum(np.bincount(targets, minlength=K), 1)
    scores = np.exp(log_softmax(logits))
    total = 0.0
    for z, sigma, y in zip(logits, scores, targets, strict=True):
        mitigation = np.minimum((counts / counts[y]) ** p, 1)
        compensation = np.maximum((sigma / max(sigma[y], 1e-2)) ** q, 1)
        factor = mitigation * compensation
        factor[y] = 1
        total += np.log((factor * np.exp(z - z[y])).sum())
    return total / len(targets)


CASES = [
    (dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1), smoothed, LABELS),
    (dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1), smoothed, SOFT),
    (
        dict(type='mmpretrain.CrossEntropyLoss', class_weight=WEIGHTS, loss_weight=2.0),
        weighed,
        LABELS,
    ),
    (dict(type='mmpretrain.CrossEntropyLoss', use_soft=True), soft, LABELS),
    (dict(type='mmpretrain.CrossEntropyLoss', use_soft=True), soft, SOFT),
    (dict(type='mmpretrain.CrossEntropyLoss'), soft, SOFT),
    (dict(type='mmpretrain.CrossEntropyLoss', use_sigmoid=True), sigmoid_of_every_class, LABELS),
    (dict(type='mmpretrain.FocalLoss', gamma=1.5, alpha=0.4), focal, LABELS),
    (dict(type='mmpretrain.SeesawLoss', num_classes=K), seesaw, LABELS),
]
NAMES = [
    f'{formula.__name__}-{"soft" if targets is SOFT else "hard"}' for _, formula, targets in CASES
]


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmkdfuse'):
        torch.manual_seed(0)
        yield


@pytest.fixture
def images():
    return torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def logits_of(model, images):
    """Logits of every head that learns from the labels, by the name of its term."""
    with torch.no_grad():
        found = model(images)
    heads = found if isinstance(found, tuple) else (found,)
    names = [f'loss_ce_{name}' for name in model.head_names]
    return dict(zip(names, (each.double().numpy() for each in heads), strict=True))


@pytest.mark.parametrize('build', PLACES)
@pytest.mark.parametrize(('loss', 'formula', 'targets'), CASES, ids=NAMES)
def test_a_loss_is_its_formula(build, images, loss, formula, targets):
    model = build(dict(type=LINEAR, loss=loss)).eval()
    terms = model(images, targets, mode='loss')
    for name, logits in logits_of(model, images).items():
        found = terms.get(name, terms.get('loss_ce'))
        assert found.item() == pytest.approx(formula(logits, targets.numpy()), rel=1e-4)


@pytest.mark.parametrize('build', PLACES)
def test_cal_acc_logs_the_main_heads_accuracy_for_every_k(build, images):
    model = build(dict(type=LINEAR, cal_acc=True, topk=(1, 3))).eval()
    terms = model(images, LABELS, mode='loss')
    logits = list(logits_of(model, images).values())[-1]
    ranks = (-logits).argsort(axis=1)
    for k in (1, 3):
        hits = [label in row[:k] for label, row in zip(LABELS.tolist(), ranks, strict=True)]
        assert terms[f'accuracy_top-{k}'].item() == pytest.approx(100 * np.mean(hits))
    total, logged = model.parse_losses(terms)
    assert {'accuracy_top-1', 'accuracy_top-3'} <= set(logged)
    assert total.item() == pytest.approx(
        sum(v.item() for k, v in terms.items() if k.startswith('loss')), rel=1e-5
    )


def test_accuracies_of_mixed_labels_are_refused(images):
    model = classifier(dict(type=LINEAR, cal_acc=True))
    with pytest.raises(ValueError, match='head.cal_acc=True needs one label an image'):
        model(images, SOFT, mode='loss')


def test_without_cal_acc_nothing_is_logged(images):
    terms = classifier(dict(type=LINEAR, topk=(1, 3)))(images, LABELS, mode='loss')
    assert list(terms) == ['loss_ce_main']


def test_a_loss_that_counts_labels_counts_them_once_for_all_heads(images):
    loss = dict(type='mmpretrain.SeesawLoss', num_classes=K)
    model = branched(dict(type=LINEAR, loss=loss))
    for batches in (1, 2):
        model(images, LABELS, mode='loss')
        counts = model.main_head.loss_module.cum_samples
        assert counts.tolist() == [batches, 0, 0, 2 * batches, batches]


def test_the_teachers_loss_is_not_the_students(images):
    smooth = dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.5)
    teacher = dict(
        type='mmkdfuse.Classifier',
        backbone=TEACHER,
        head=dict(type=LINEAR, loss=smooth),
        num_classes=K,
        image_size=SIDE,
    )
    model = MFAKD(NETWORK, teacher, K, SIDE, loss='ce').eval()
    logits = logits_of(model, images)['loss_ce_main']
    found = model(images, LABELS, mode='loss')['loss_ce'].item()
    assert found == pytest.approx(soft(logits, LABELS.numpy()), rel=1e-5)


@pytest.mark.parametrize('build', PLACES)
@pytest.mark.parametrize(
    ('head', 'sentence'),
    [
        (dict(type='mmpretrain.MultiLabelLinearClsHead'), 'MultiLabelLinearClsHead'),
        (dict(type='mmpretrain.CSRAClsHead'), 'CSRAClsHead'),
        (dict(type='mmpretrain.ArcFaceClsHead'), 'ArcFaceClsHead'),
        (dict(type='mmpretrain.EfficientFormerClsHead'), 'EfficientFormerClsHead'),
        (dict(type='mmpretrain.ConformerHead'), 'ConformerHead'),
        (dict(type='mmpretrain.MultiTaskHead', task_heads={}), 'MultiTaskHead'),
    ],
)
def test_a_head_with_a_loss_of_its_own_is_refused_by_name(build, head, sentence):
    with pytest.raises(ValueError, match=f'head.type=.{sentence}. computes its loss or pred'):
        build(head)


@pytest.mark.parametrize(
    ('head', 'sentence'),
    [
        (dict(type='mmpretrain.LeViTClsHead'), 'head.distillation=True cannot be trained'),
        (dict(type='mmpretrain.DeiTClsHead'), "head.type='DeiTClsHead' makes .* of 2 vectors"),
        (dict(type=LINEAR, num_classes=7), 'head.num_classes=7 would be ignored, .* expected 5'),
        (dict(type=LINEAR, in_channels=9), 'head.in_channels=9 would be ignored, .* expected 16'),
    ],
)
@pytest.mark.parametrize('build', [classifier, branched, peers])
def test_a_head_that_does_not_fit_is_refused_by_name(build, head, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(head)


def test_counts_that_fit_may_be_written_out(images):
    head = dict(type=LINEAR, num_classes=K, in_channels=16)
    assert classifier(copy.deepcopy(head))(images).shape == (4, K)


@pytest.mark.parametrize(
    'cfg',
    [
        dict(type='Classifier', backbone=NETWORK),
        dict(type='KFMSD', backbone=NETWORK),
        dict(type='KD', student=NETWORK, teacher=TEACHER),
        dict(type='MFAKD', student=NETWORK, teacher=TEACHER, beta=1.0),
    ],
    ids=lambda cfg: cfg['type'],
)
def test_batch_augmentations_reach_the_loss_as_soft_labels(cfg):
    augments = dict(augments=dict(type='Mixup', alpha=0.8))
    model = MODELS.build(dict(cfg, num_classes=K, image_size=SIDE, train_cfg=augments))
    samples = [DataSample().set_gt_label(label) for label in LABELS.view(-1, 1)]
    images = torch.arange(4 * 3 * SIDE**2).view(4, 3, SIDE, SIDE) % 7
    np.random.seed(0)
    batch = model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)
    rows = torch.stack([sample.gt_score for sample in batch['data_samples']])
    assert ((rows > 0) & (rows < 1)).any()
    targets = rows.numpy()
    model.eval()
    name = 'loss_ce_main' if 'backbone' in cfg else 'loss_ce'
    found = model(batch['inputs'], batch['data_samples'], mode='loss')[name]
    logits = logits_of(model, batch['inputs'])['loss_ce_main']
    weight = dict(KFMSD=0.3, KD=0.1).get(cfg['type'], 1.0)
    assert found.item() == pytest.approx(weight * soft(logits, targets), rel=1e-4)
