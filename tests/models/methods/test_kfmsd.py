"""KFMSD: eq. 10 from its parts, predictions of every head, what is deployed."""

import copy

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from mmpretrain.structures import DataSample
from reading import output_of

from mmkdfuse.analysis.cost import Cost, count_cost
from mmkdfuse.models import KFMSD
from mmkdfuse.registry import MODELS

K = 7
LABELS = torch.tensor([0, 3, 6, 3])
HEADS = ['branch1', 'branch2', 'branch3', 'main']
CE_TERMS = [f'loss_ce_{name}' for name in HEADS]


def images_of(size=(32, 32), count=4):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def build(tiny_backbone):
    """Builds the same small network with the arguments given."""

    def build_model(**changes):
        torch.manual_seed(0)
        cfg = dict(type='KFMSD', backbone=tiny_backbone, num_classes=K, image_size=32)
        return MODELS.build({**cfg, **changes})

    return build_model


def softmax(z):
    exponentials = np.exp(z)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def parts(model):
    """Cross-entropy of every head, eq. 8 and eq. 9, from logits and features, with numpy."""
    output = output_of(model, images_of())
    logits = [z.detach().double().numpy() for z in output.head_logits.values()]
    features = [f.detach().double().numpy() for f in output.head_features.values()]
    ce = [-np.log(softmax(z)[np.arange(4), LABELS.numpy()]).mean() for z in logits]
    *branches, main = [softmax(z / 3) for z in logits]
    mutual = sum((q * np.log(q / main) + main * np.log(main / q)).sum(1).mean() for q in branches)
    distance = sum(((features[-1] - f) ** 2).mean() for f in features[:-1])
    return ce, mutual, distance


@pytest.mark.parametrize(('gamma', 'delta'), [(0.7, 0.03), (0.2, 1.5), (1.0, 0.5)])
def test_terms_of_equation_10(build, gamma, delta):
    model = build(gamma=gamma, delta=delta)
    ce, mutual, distance = parts(model)
    terms = model(images_of(), LABELS, mode='loss')
    # Terms of weight 0 are not computed.
    ce_terms, ce = (CE_TERMS, ce) if gamma < 1 else ([], [])
    assert list(terms) == [*ce_terms, 'loss_mutual_kl', 'loss_feature']
    expected = [*((1 - gamma) * value for value in ce), gamma * mutual, delta * distance]
    assert [v.item() for v in terms.values()] == pytest.approx(expected, rel=1e-4, abs=1e-7)
    total, _ = model.parse_losses(terms)
    assert total.item() == pytest.approx(sum(expected), rel=1e-4)


def test_the_papers_weights_are_the_default(build):
    model = build()
    task, mutual, feature = model.losses.values()
    assert (model.gamma, model.delta, mutual.tau) == (0.7, 0.03, 3.0)
    assert (task.weight, mutual.weight, feature.weight) == pytest.approx((0.3, 0.7, 0.03))
    assert (mutual.detach_target, mutual.scale_by_tau2) == (True, False)
    assert (feature.reduction, feature.detach) == ('mean', 'branch')
    assert model.predict_from == 'main'


@pytest.mark.parametrize('changes', [dict(gamma=0), dict(mutual_loss=None)])
def test_without_the_mutual_term_cross_entropies_weigh_1(build, changes):
    model = build(**changes)
    ce, _, distance = parts(model)
    terms = model(images_of(), LABELS, mode='loss')
    assert list(terms) == [*CE_TERMS, 'loss_feature']
    assert [v.item() for v in terms.values()] == pytest.approx([*ce, 0.03 * distance], rel=1e-4)


@pytest.mark.parametrize('changes', [dict(delta=0), dict(feature_loss=None)])
def test_without_the_feature_term_the_others_stay(build, changes):
    model = build(**changes)
    ce, mutual, _ = parts(model)
    terms = model(images_of(), LABELS, mode='loss')
    assert list(terms) == [*CE_TERMS, 'loss_mutual_kl']
    expected = [*(0.3 * value for value in ce), 0.7 * mutual]
    assert [v.item() for v in terms.values()] == pytest.approx(expected, rel=1e-4)


def test_options_of_the_losses_come_through(build):
    model = build(
        mutual_loss=dict(tau=2.0, detach_target=False, scale_by_tau2=True),
        feature_loss=dict(reduction='norm', detach=None),
    )
    _, mutual, feature = model.losses.values()
    assert mutual.tau == 2.0 and mutual.scale_by_tau2 and not mutual.detach_target
    assert feature.reduction == 'norm' and feature.detach is None


def test_labels_samples_and_soft_labels_give_the_same_terms(build):
    model = build()
    hard = [DataSample().set_gt_label(int(label)) for label in LABELS]
    soft = [DataSample().set_gt_score(row) for row in torch.eye(K)[LABELS]]
    expected = model(images_of(), LABELS, mode='loss')
    for samples in (hard, soft):
        found = model(images_of(), samples, mode='loss')
        assert list(found) == list(expected)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)


def test_tensor_mode_returns_every_head_main_last(build):
    model = build().eval()
    output = output_of(model, images_of())
    logits = model(images_of())
    assert isinstance(logits, tuple) and [tuple(z.shape) for z in logits] == [(4, K)] * 4
    assert list(model.head_names) == HEADS == list(output.head_logits)
    pairs = zip(logits, output.head_logits.values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert torch.equal(output.logits, logits[-1])
    torch.testing.assert_close(output.feature, output.stage(-1).mean(dim=(2, 3)))
    torch.testing.assert_close(logits[-1], model.head.main((output.feature,)))
    feature, classifier = output.feature_of('branch2'), model.head.branches[1]
    torch.testing.assert_close(logits[1], feature @ classifier.weight.T + classifier.bias)


@pytest.mark.parametrize('head', [*HEADS, 'ensemble'])
def test_predictions_are_those_of_the_chosen_head(build, head):
    model = build(predict_from=head).eval()
    logits = torch.stack(model(images_of()))
    chosen = logits.mean(dim=0) if head == 'ensemble' else logits[HEADS.index(head)]
    predictions = model(images_of(), LABELS, mode='predict')
    for row, prediction in enumerate(predictions):
        torch.testing.assert_close(prediction.pred_score, chosen[row].softmax(dim=0))
        assert prediction.pred_label.item() == chosen[row].argmax()
        torch.testing.assert_close(prediction.branch_scores, logits[:, row].softmax(dim=1))
        assert prediction.gt_label.tolist() == [LABELS[row]]


@pytest.mark.parametrize('size', [(32, 32), (48, 40), (33, 33)])
def test_deployed_network_gives_the_logits_of_the_main_one(build, size):
    model = build().eval()
    deployed = model.deployed()
    assert type(deployed) is ImageClassifier
    assert torch.equal(deployed(images_of(size), mode='tensor'), model(images_of(size))[-1])
    assert not [name for name, _ in deployed.named_parameters() if 'branch' in name]


def test_deployed_resnet18_costs_what_the_paper_prints():
    model = KFMSD(backbone='resnet18', num_classes=100, image_size=32)
    cost = count_cost(model.deployed(), (3, 32, 32))
    assert cost == Cost(parameters=11_220_132, macs=555_468_800)


@pytest.mark.parametrize('fuse', ['fused', 'detached', 'none'])
@pytest.mark.parametrize('module', ['bottleneck', 'sepconv'])
def test_every_parameter_gets_a_gradient(build, fuse, module):
    model = build(neck=dict(fuse=fuse, module=module))
    model.init_weights()
    total, _ = model.parse_losses(model(images_of(), LABELS, mode='loss'))
    total.backward()
    dead = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert dead == []


def test_the_main_classifier_learns_from_its_own_terms_only(build):
    model = build()
    (model(images_of(), LABELS, mode='loss')['loss_ce_branch1']).backward()
    assert model.head.main.fc.weight.grad is None
    assert model.head.branches[0].weight.grad.any()
    # Branch 1 is fused with stage 2 and does not see stages 3 and 4.
    assert model.backbone.layer2[0].conv1.weight.grad.any()
    assert model.backbone.layer3[0].conv1.weight.grad is None


def test_state_goes_from_one_model_to_another(build):
    model, other = build(), build()
    model.train()(images_of())  # moves the batch-norm statistics
    for parameter in other.parameters():
        parameter.data.add_(1)
    other.load_state_dict(copy.deepcopy(model.state_dict()), strict=True)
    for a, b in zip(model.eval()(images_of()), other.eval()(images_of()), strict=True):
        assert torch.equal(a, b)


def test_training_and_evaluation_mode_return_the_model(build):
    model = build()
    assert model.eval() is model and not any(module.training for module in model.modules())
    assert model.train() is model and all(module.training for module in model.modules())


@pytest.mark.parametrize('scope', ['mmkdfuse', 'mmpretrain'])
def test_builds_in_the_scope_of_mmpretrain_too(tiny_backbone, scope):
    cfg = dict(type='mmkdfuse.KFMSD', backbone=tiny_backbone, num_classes=K, image_size=32)
    before = copy.deepcopy(cfg)
    with DefaultScope.overwrite_default_scope(scope):
        assert isinstance(MMPRETRAIN_MODELS.build(cfg), KFMSD)
    assert cfg == before


def test_description_holds_shapes_and_branches(build):
    shapes, *plans = build().describe()
    assert shapes == 'stage shapes (C x H x W): 4x32x32, 8x16x16, 16x8x8, 32x4x4'
    assert [plan.partition(':')[0] for plan in plans] == ['branch1', 'branch2', 'branch3']


@pytest.mark.parametrize('out_indices', [(0, 1), (1, 3), (0, 2, 3)])
def test_any_number_of_stages(build, tiny_backbone, out_indices):
    model = build(backbone=dict(tiny_backbone, out_indices=out_indices)).eval()
    logits = model(images_of())
    assert [tuple(z.shape) for z in logits] == [(4, K)] * len(out_indices)
    assert model.head_names[-1] == 'main'


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        (dict(gamma=1.1), r'gamma=1.1 must be in \[0, 1\]'),
        (dict(gamma=-0.1), r'gamma=-0.1 must be in \[0, 1\]'),
        (dict(delta=-0.5), 'delta=-0.5 must not be negative'),
        (dict(predict_from='branch4'), "predict_from='branch4' must be one of .*'branch3', 'main'"),
        (dict(backbone='resnet180'), "did you mean 'resnet18'"),
        (dict(num_classes=0), 'num_classes=0 must be a positive integer'),
        (dict(image_size=0), 'image_size=0 must be'),
        (dict(neck=dict(fuse='add')), "fuse='add'"),
    ],
)
def test_refused_arguments_are_named(build, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(**changes)


def test_one_stage_is_refused_with_the_argument_to_change(build, tiny_backbone):
    with pytest.raises(ValueError, match='at least two stages.*out_indices'):
        build(backbone=dict(tiny_backbone, out_indices=(3,)))


@pytest.mark.parametrize('gamma', [0.0, 0.7])
def test_scaled_to_the_labels_all_terms_are_divided_by_their_weight(gamma, build):
    printed = build(gamma=gamma).eval()
    scaled = build(gamma=gamma, scale='labels').eval()
    expected = printed(images_of(), LABELS, mode='loss')
    found = scaled(images_of(), LABELS, mode='loss')
    assert found.keys() == expected.keys()
    for name, term in found.items():
        torch.testing.assert_close(term * (1 - gamma), expected[name])


def test_other_scales_are_refused(build):
    with pytest.raises(ValueError, match="scale='main' must be one of"):
        build(scale='main')
    with pytest.raises(ValueError, match="scale='labels' divides by 1 - gamma, which is 0"):
        build(scale='labels', gamma=1)
