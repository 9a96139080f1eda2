"""Predictions of the head at which an image leaves are those of the whole model's head."""

import pytest
import torch
from mmpretrain.structures import DataSample
from torch import nn

from mmkdfuse.analysis.cost import count_cost
from mmkdfuse.deploy import EarlyExit
from mmkdfuse.models.inference.truncated_backbone import truncate

MODELS = {
    'KFMSD': dict(type='KFMSD'),
    'stacked head, two branches': dict(
        type='KFMSD',
        head=dict(type='StackedLinearClsHead', mid_channels=[9]),
        neck=dict(branches=[1, 3], fuse='none'),
    ),
    'BYOT': dict(type='BYOT'),
    'FKD, whose last branch reads all stages': dict(type='FKD'),
    'VGG': dict(type='KFMSD', backbone=dict(arch='vgg11', base_channels=4)),
}


def images_of(count):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def scores_of(model, images):
    """Probabilities (N, M, K) of the whole model."""
    return torch.stack(model(images), dim=1).softmax(dim=-1)


def halves(scores, exits):
    """Thresholds at which about half of the images that are left leave, away from every score."""
    thresholds, rows = [], torch.arange(len(scores))
    for number in exits:
        sure = scores[rows, number - 1].amax(dim=-1).sort().values
        middle = len(sure) // 2
        thresholds.append(float(sure[middle - 1 : middle + 1].mean()))
        rows = rows[scores[rows, number - 1].amax(dim=-1) < thresholds[-1]]
    return thresholds


def assert_leaves_as_expected(predictions, scores, thresholds, exits, names):
    assert len(predictions) == len(scores)
    for prediction, image in zip(predictions, scores, strict=True):
        number = next(
            (e - 1 for e, t in zip(exits, thresholds, strict=True) if image[e - 1].max() >= t), -1
        )
        assert prediction.exit == names[number]
        torch.testing.assert_close(prediction.pred_score, image[number], rtol=0, atol=1e-5)
        assert prediction.pred_label.tolist() == [int(image[number].argmax())]


@pytest.mark.parametrize('changes', MODELS.values(), ids=list(MODELS))
def test_all_at_the_first_none_and_mixed(make, changes):
    model, _, _ = make(**changes)
    images = images_of(12)
    scores = scores_of(model, images)
    exits = range(1, model.num_heads)
    mixed = halves(scores, exits)
    early_exit = EarlyExit(model, 0.5)
    assert early_exit.stagewise and early_exit.exit_names == model.head_names
    for thresholds in ([1e-6] * len(exits), [1.0] * len(exits), mixed):
        early_exit = EarlyExit(model, thresholds)
        predictions = early_exit.predict(images)
        assert_leaves_as_expected(predictions, scores, thresholds, exits, model.head_names)
    used = [prediction.exit for prediction in predictions]
    assert len(set(used)) >= 3
    # An image's way does not depend on its batch.
    for image, score, name in zip(images[:4], scores, used, strict=False):
        (alone,) = early_exit(image[None])
        assert_leaves_as_expected([alone], score[None], mixed, exits, model.head_names)
        assert alone.exit == name


def test_one_threshold_for_all_exits(make):
    model, _, _ = make()
    images = images_of(12)
    scores = scores_of(model, images)
    threshold = float(scores[:, :-1].amax(dim=-1).median()) + 1e-5
    predictions = EarlyExit(model, threshold).predict(images)
    assert_leaves_as_expected(predictions, scores, [threshold] * 3, (1, 2, 3), model.head_names)


@pytest.mark.parametrize('exits', [(2,), (1, 3)])
def test_some_branches_only(make, exits):
    model, _, _ = make()
    images = images_of(12)
    scores = scores_of(model, images)
    thresholds = halves(scores, exits)
    early_exit = EarlyExit(model, thresholds, exits)
    assert early_exit.exit_names == (*(f'branch{number}' for number in exits), 'main')
    predictions = early_exit.predict(images)
    assert_leaves_as_expected(predictions, scores, thresholds, exits, model.head_names)
    assert early_exit.costs()['main'] < EarlyExit(model, 0.5).costs()['main']


def test_samples_and_labels_are_kept(make):
    model, _, _ = make()
    samples = [DataSample(metainfo=dict(img_path=f'{n}.png')) for n in range(3)]
    early_exit = EarlyExit(model, 0.5)
    predictions = early_exit.predict(images_of(3), samples)
    assert [p.img_path for p in predictions] == ['0.png', '1.png', '2.png']
    labelled = early_exit.predict(images_of(3), torch.tensor([4, 0, 2]))
    assert [p.gt_label.tolist() for p in labelled] == [[4], [0], [2]]


def test_it_stays_in_eval_mode(make):
    model, _, _ = make()
    model.train()
    early_exit = EarlyExit(model, 0.5).train()
    assert not any(module.training for module in early_exit.modules()) and not model.training
    assert not early_exit.predict(images_of(2))[0].pred_score.requires_grad


def test_costs(make):
    model, _, _ = make()
    early_exit, shape = EarlyExit(model, 0.5), (3, 32, 32)
    costs, alone = early_exit.costs(), early_exit.costs_alone()
    assert list(costs) == list(alone) == ['branch1', 'branch2', 'branch3', 'main']
    assert list(costs.values()) == sorted(set(costs.values()))
    # Whole model and main network.
    assert costs['main'] == count_cost(model, shape).macs
    assert alone['main'] == count_cost(model.deployed(), shape).macs
    # What branch 1 needs, put together by hand: two stages, its path and its classifier.
    assert model.neck.path(0).stages_read == 2
    network = FirstBranch(model)
    assert costs['branch1'] == alone['branch1'] == count_cost(network, shape).macs
    # One more branch adds the same whether or not the others were computed.
    without_first = EarlyExit(model, 0.5, [2, 3]).costs()
    difference = costs['main'] - without_first['main']
    assert difference > 0 and costs['branch2'] - without_first['branch2'] == difference


class FirstBranch(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.backbone = truncate(model.backbone, 2, 32)
        self.path, self.classifier = model.neck.path(0), model.head.branches[0]

    def forward(self, x):
        return self.classifier(self.path(self.backbone(x)[:2]))


class ChangesItsMaps(nn.Module):
    """Cannot be continued: what its first layer returned is changed behind it."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 if n == 0 else 4, 4, 3, 2, 1) for n in range(3))

    def forward(self, x):
        first = self.layers[0](x).mul_(2)
        second = self.layers[1](first)
        return first, second, self.layers[2](second)


def test_a_backbone_that_cannot_be_continued(monkeypatch):
    from mmkdfuse.deploy import early_exit as module
    from mmkdfuse.models import KFMSD

    lines = []
    monkeypatch.setattr(module, 'print_log', lambda text, **_: lines.append(text))
    torch.manual_seed(0)
    model = KFMSD(dict(type=ChangesItsMaps), num_classes=5, image_size=32).eval()
    images = images_of(10)
    scores = scores_of(model, images)
    thresholds = halves(scores, (1, 2))
    early_exit = EarlyExit(model, thresholds)
    assert not early_exit.stagewise
    assert len(lines) == 1 and 'ChangesItsMaps' in lines[0] and 'all stages' in lines[0]
    predictions = early_exit.predict(images)
    assert_leaves_as_expected(predictions, scores, thresholds, (1, 2), model.head_names)
    # The whole backbone counts at every exit.
    backbone = count_cost(model.backbone, (3, 32, 32)).macs
    costs = early_exit.costs()
    assert backbone < costs['branch1'] < costs['branch2'] < costs['main']
    assert costs['main'] == count_cost(model, (3, 32, 32)).macs


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(threshold=0), r'threshold=0 must be in \(0, 1\]'),
        (dict(threshold=1.01), r'threshold=1.01 must be in \(0, 1\]'),
        (dict(threshold=float('nan')), r'threshold=nan must be in \(0, 1\]'),
        (dict(threshold=[0.5, 0.5, -1]), r'threshold=-1 must be in \(0, 1\]'),
        (dict(threshold=[0.5, 0.5]), r'threshold=\[0.5, 0.5\] must be one number or 3'),
        (dict(threshold=[0.5, 0.5], exits=[1]), 'must be one number or 1'),
        (dict(threshold=0.5, exits=[]), r'exits=\[\] must be ascending branch numbers from 1 to 3'),
        (dict(threshold=0.5, exits=[0]), r'exits=\[0\] must be'),
        (dict(threshold=0.5, exits=[4]), r'exits=\[4\] must be'),
        (dict(threshold=0.5, exits=[2, 1]), r'exits=\[2, 1\] must be'),
        (dict(threshold=0.5, exits=[1, 1]), r'exits=\[1, 1\] must be'),
    ],
)
def test_bad_arguments(make, arguments, message):
    model, _, _ = make()
    with pytest.raises(ValueError, match=message):
        EarlyExit(model, **arguments)


@pytest.mark.parametrize('changes', [dict(type='DML', peers=1), dict(type='Classifier')])
def test_models_without_branches(make, changes):
    model, _, _ = make(**changes)
    with pytest.raises(ValueError, match=f'model={changes["type"]} has no branches on one network'):
        EarlyExit(model, 0.5)
