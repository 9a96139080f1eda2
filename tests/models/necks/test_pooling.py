"""Another pooling than the average, in plain networks and in all heads of branched ones."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier

from mmkdfuse.checkpoint import load_strictly
from mmkdfuse.deploy.early_exit import EarlyExit
from mmkdfuse.models import BYOT, FKD, KFMSD, MFAKD, BranchedClassifier, Classifier
from mmkdfuse.models.teachers.teacher import Teacher
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import TapKeys

K, SIDE = 5, 32
NETWORK = dict(arch='resnet18', base_channels=4, stem_channels=4)
GEM = dict(type='mmpretrain.GeneralizedMeanPooling', p=4.0)
METHODS = (BranchedClassifier, KFMSD, BYOT, FKD)


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmkdfuse'):
        torch.manual_seed(0)
        yield


@pytest.fixture
def images():
    return torch.randn(3, 3, SIDE, SIDE)


def build(method, **options):
    return method(NETWORK, K, SIDE, neck=dict(pooling=GEM, **options)).eval()


def as_neck(pooling):
    return Classifier(NETWORK, K, SIDE, neck=pooling)


def as_pooling(pooling):
    return BranchedClassifier(NETWORK, K, SIDE, neck=dict(pooling=pooling))


def generalised_mean(feature_map, p, eps=1e-6):
    return feature_map.clamp(min=eps).pow(p).mean(dim=(2, 3)).pow(1 / p)


def exported(model, head='main'):
    """The plain classifier of a head with the trained weights, as it ships."""
    export = model.export(head)
    network = MODELS.build(export.config).eval()
    weights = {
        f'{prefix}.{name}': tensor
        for prefix, module in export.weights.items()
        for name, tensor in module.state_dict().items()
    }
    load_strictly(network, {name: weights[name] for name in network.state_dict()}, head)
    assert type(network) is ImageClassifier
    return network


def test_a_plain_network_pools_as_its_neck_says(images):
    model = Classifier(NETWORK, K, SIDE, neck=GEM).eval()
    expected = model.head.fc(generalised_mean(model.backbone(images)[-1], 4.0))
    torch.testing.assert_close(model(images), expected)
    network = exported(model)
    assert model.export().config['neck'] == GEM
    assert torch.equal(network(images), model(images))


@pytest.mark.parametrize('method', METHODS)
def test_every_feature_is_pooled_by_its_own_module(method, images):
    model = build(method)
    count = len(model.head_names)
    poolings = [model.neck.path(number).pooling for number in range(count - 1)]
    poolings.append(model.neck.pooling)
    powers = torch.linspace(1.5, 6, count)
    with torch.no_grad():
        for pooling, power in zip(poolings, powers, strict=True):
            pooling.p.fill_(power)
        maps = tuple(model.backbone(images))
        found = model.neck(maps)
        paths = [model.neck.path(number).feature_map(maps) for number in range(count - 1)]
    for feature, feature_map, power in zip(found, [*paths, maps[-1]], powers, strict=True):
        torch.testing.assert_close(feature, generalised_mean(feature_map, power))


@pytest.mark.parametrize('method', METHODS)
def test_every_head_ships_with_its_pooling(method, images):
    model = build(method)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith('pooling.p'):
                parameter += torch.rand(1)
        output = model.run(images, model.all_logits)
        for head in model.scored_heads:
            found = exported(model, head)(images)
            torch.testing.assert_close(found, output.logits_of(head))
        mean = torch.stack(list(output.head_logits.values())).mean(dim=0)
        torch.testing.assert_close(exported(model, 'ensemble')(images), mean)
        torch.testing.assert_close(model.deployed()(images), output.logits)


@pytest.mark.parametrize('method', METHODS)
def test_an_early_exit_pools_as_the_model(method, images):
    model = build(method)
    with torch.no_grad():
        output = model.run(images, model.all_logits)
    for number, name in enumerate(model.head_names, start=1):
        exits = [number] if name != 'main' else [1]
        threshold = 1e-9 if name != 'main' else 1.0
        samples = EarlyExit(model, threshold, exits).predict(images)
        found = torch.stack([sample.pred_score for sample in samples])
        torch.testing.assert_close(found, output.logits_of(name).softmax(dim=1))


@pytest.mark.parametrize('method', METHODS)
def test_poolings_learn(method, images):
    model = build(method).train()
    sum(model(images, torch.tensor([0, 1, 4]), mode='loss').values()).backward()
    learned = [p.grad for n, p in model.named_parameters() if n.endswith('pooling.p')]
    assert len(learned) == len(model.head_names)
    assert all(gradient is not None and gradient.any() for gradient in learned)


@pytest.mark.parametrize('method', METHODS)
def test_the_default_is_the_average_and_has_no_weights(method, images):
    model = method(NETWORK, K, SIDE).eval()
    assert not [name for name in model.state_dict() if 'pooling' in name]
    maps = tuple(model.backbone(images))
    torch.testing.assert_close(model.neck(maps)[-1], maps[-1].mean(dim=(2, 3)))
    assert model.export().config['neck'] == dict(type='mmpretrain.GlobalAveragePooling')


def test_a_teacher_with_branches_keeps_its_pooling(images, tmp_path):
    teacher = build(KFMSD)
    with torch.no_grad():
        teacher.neck.pooling.p.fill_(2.5)
    torch.save(teacher.state_dict(), tmp_path / 'teacher.pth')
    config = dict(
        type='mmkdfuse.KFMSD',
        backbone=NETWORK,
        neck=dict(pooling=GEM),
        num_classes=K,
        image_size=SIDE,
        checkpoint=str(tmp_path / 'teacher.pth'),
    )
    loaded = Teacher(config, K, SIDE)
    loaded.load()
    expected = teacher.run(images, TapKeys(logits=('main',))).logits
    found = loaded(images, TapKeys(logits=('main',))).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    student = MFAKD(NETWORK, config, K, SIDE)
    student.init_weights()
    assert student.neck.teacher_neck.p.item() == 2.5


def test_a_pooling_may_change_the_channels(images):
    linear = dict(type='mmpretrain.LinearNeck', out_channels=24, gap_dim=2)
    model = KFMSD(NETWORK, K, SIDE, neck=dict(pooling=linear)).eval()
    assert model.neck.out_channels == 24
    assert model.export().config['neck'] == dict(linear, in_channels=32)
    for head in model.scored_heads:
        found = exported(model, head)(images)
        torch.testing.assert_close(found, model.run(images, model.all_logits).logits_of(head))


@pytest.mark.parametrize(
    'pooling',
    [
        dict(type='mmpretrain.HRFuseScales', in_channels=(32,)),
        dict(type='mmpretrain.LinearNeck', out_channels=3),
    ],
    ids=lambda pooling: pooling['type'],
)
@pytest.mark.parametrize('build', [as_neck, as_pooling])
def test_one_that_does_not_take_a_map_is_refused(build, pooling):
    with pytest.raises(ValueError, match=f'neck.type={pooling["type"]!r} does not take one map'):
        build(pooling)
