"""The single network: the same path of data as KFMSD, without branches."""

import pytest
import torch
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import nn

from mmkdfuse.analysis.cost import count_cost
from mmkdfuse.registry import MODELS

K = 7


@pytest.fixture
def model(tiny_backbone):
    torch.manual_seed(0)
    return MODELS.build(
        dict(type='Classifier', backbone=tiny_backbone, num_classes=K, image_size=32)
    )


def images_of(count=4, size=(32, 32)):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([0, 3, 6, 3])


def test_loss_is_the_mean_cross_entropy(model):
    logits = model(images_of())
    terms = model(images_of(), LABELS, mode='loss')
    expected = -logits.log_softmax(dim=1)[torch.arange(4), LABELS].mean()
    assert list(terms) == ['loss_ce_main']
    torch.testing.assert_close(terms['loss_ce_main'], expected)


def test_labels_samples_and_soft_labels_give_one_loss(model):
    hard = [DataSample().set_gt_label(int(label)) for label in LABELS]
    soft = [DataSample().set_gt_score(row) for row in torch.eye(K)[LABELS]]
    expected = model.loss(images_of(), LABELS)['loss_ce_main']
    for samples in (hard, soft):
        torch.testing.assert_close(model.loss(images_of(), samples)['loss_ce_main'], expected)


def test_mixed_labels_weigh_the_cross_entropies(model):
    one, other = LABELS, LABELS.flip(0)
    scores = 0.3 * torch.eye(K)[one] + 0.7 * torch.eye(K)[other]
    samples = [DataSample().set_gt_score(score) for score in scores]
    terms = [model.loss(images_of(), target)['loss_ce_main'] for target in (one, other, samples)]
    torch.testing.assert_close(terms[2], 0.3 * terms[0] + 0.7 * terms[1])


def test_predictions_are_the_softmax_of_the_logits(model):
    model.eval()
    scores = model(images_of()).softmax(dim=1)
    for data_samples in (None, LABELS, [DataSample().set_gt_label(int(k)) for k in LABELS]):
        predictions = model.predict(images_of(), data_samples)
        assert len(predictions) == 4
        for prediction, score in zip(predictions, scores, strict=True):
            torch.testing.assert_close(prediction.pred_score, score)
            assert prediction.pred_label.tolist() == [score.argmax().item()]
        if data_samples is not None:
            assert [p.gt_label.tolist() for p in predictions] == [[0], [3], [6], [3]]


@pytest.mark.parametrize('size', [(32, 32), (48, 40), (17, 33)])
def test_deployed_network_gives_the_same_logits(model, size):
    model.eval()
    deployed = model.deployed()
    assert type(deployed) is ImageClassifier and not deployed.training
    assert torch.equal(deployed(images_of(size=size), mode='tensor'), model(images_of(size=size)))


def test_baseline_and_deployed_network_cost_the_same(model):
    assert count_cost(model, (3, 32, 32)) == count_cost(model.deployed(), (3, 32, 32))


def test_training_and_evaluation_mode_return_the_model(model):
    assert model.train() is model and model.training and model.backbone.training
    assert model.eval() is model and not model.training and not model.backbone.training
    assert model.deployed().training is False
    model.train()
    assert model.deployed().training is True


def test_description_holds_the_stage_shapes(model):
    assert model.describe() == ['stage shapes (C x H x W): 4x32x32, 8x16x16, 16x8x8, 32x4x4']


def test_layers_behind_the_last_stage_are_frozen_and_named(tiny_backbone):
    model = MODELS.build(
        dict(
            type='Classifier',
            backbone=dict(tiny_backbone, out_indices=(0, 1, 2)),
            num_classes=K,
            image_size=32,
        )
    )
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {n for n, _ in model.named_parameters() if n.startswith('backbone.layer4')}
    assert 'layer4.0.conv1.weight' in model.describe()[1]
    model.loss(images_of(), LABELS)['loss_ce_main'].backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


class OneMapBackbone(nn.Module):
    """Returns its map itself, not a tuple of one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, 2)

    def forward(self, x):
        return self.conv(x)


def test_a_backbone_that_returns_no_tuple_is_refused(monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'OneMapBackbone', OneMapBackbone)
    cfg = dict(type='Classifier', backbone=dict(type='OneMapBackbone'), num_classes=K, image_size=9)
    with pytest.raises(ValueError, match='OneMapBackbone: returns one tensor, expected a tuple'):
        MODELS.build(cfg)


@pytest.mark.parametrize('num_classes', [0, -1, 2.0, '10', None])
def test_refused_class_count_is_named(tiny_backbone, num_classes):
    with pytest.raises(ValueError, match='num_classes=.* must be a positive integer'):
        MODELS.build(
            dict(type='Classifier', backbone=tiny_backbone, num_classes=num_classes, image_size=32)
        )


def test_loss_needs_labels_and_modes_are_three(model):
    with pytest.raises(ValueError, match="data_samples=None: mode='loss' needs labels"):
        model(images_of(), mode='loss')
    with pytest.raises(ValueError, match="mode='test' must be 'tensor', 'loss' or 'predict'"):
        model(images_of(), mode='test')


def test_a_backbone_of_vectors_is_refused():
    vectors = dict(
        type='mmpretrain.ConvNeXt', arch=dict(depths=[1, 1], channels=[4, 8]), out_indices=(0, 1)
    )
    with pytest.raises(ValueError, match='gap_before_final_norm=False'):
        MODELS.build(dict(type='Classifier', backbone=vectors, num_classes=K, image_size=32))
