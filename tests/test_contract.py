"""What every registered method has to keep, whoever wrote it: found by the registry, not a list."""

import copy
import math
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from torch import multiprocessing
from torch.nn.parallel import DistributedDataParallel

import mmkdfuse.models  # noqa: F401  registers
from mmkdfuse.models import MFAKD, Classifier, Distiller
from mmkdfuse.registry import MODELS

K = 5
LABELS = torch.tensor([0, 3, 4, 3])
CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
# As shipped, full width: two networks of the paper and another method.
SHIPPED = (
    *('kfmsd/squeezenet_cifar100', 'kfmsd/mobilenet_v1_cifar100'),
    'comparison/byot_journal_mobilenet_v1_cifar100',
)
METHODS = sorted(
    name
    for name, type_ in MODELS.module_dict.items()
    if isinstance(type_, type) and issubclass(type_, Classifier)
)
DISTILLERS = [name for name in METHODS if issubclass(MODELS.get(name), Distiller)]
TEACHER = dict(arch='resnet18', base_channels=8, stem_channels=4)


def config_of(method, network, **teacher):
    """Config of a method on a network; what distils gets a wider teacher."""
    cfg = dict(type=method, num_classes=K, image_size=32)
    if method not in DISTILLERS:
        return dict(cfg, backbone=network)
    return dict(cfg, student=network, teacher={**TEACHER, **teacher})


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmkdfuse'):
        yield


def build(method, network, **teacher):
    torch.manual_seed(0)
    return MODELS.build(config_of(method, network, **teacher))


@pytest.fixture(params=METHODS)
def model(request, tiny_backbone):
    return build(request.param, tiny_backbone)


@pytest.fixture(params=DISTILLERS)
def distiller(request, tiny_backbone):
    return build(request.param, tiny_backbone)


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_the_methods_of_the_package_are_found():
    assert {'Classifier', 'KFMSD', 'BYOT', 'FKD', 'DML'} <= set(METHODS)
    assert {'MFAKD', 'SimKD', 'KD', 'DKD', 'FitNet'} <= set(DISTILLERS)


def test_terms_are_finite_scalars_and_reach_every_parameter(model, images):
    terms = model(images, LABELS, mode='loss')
    assert all(name.startswith('loss_') for name in terms)
    assert all(term.ndim == 0 and math.isfinite(term.item()) for term in terms.values())
    total, _ = model.parse_losses(terms)
    torch.testing.assert_close(total, sum(terms.values()))
    total.backward()
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    assert [name for name, p in trained if p.grad is None or not p.grad.any()] == []
    # Frozen is what a distiller takes over from its teacher, and nothing else.
    frozen = [p for p in model.parameters() if not p.requires_grad]
    assert all(p.grad is None for p in frozen)
    assert bool(frozen) == isinstance(model, MFAKD)


@pytest.mark.slow
def test_a_compiled_training_pass_gives_the_terms_and_gradients_of_the_plain_one(model, images):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    found = []
    for step in ('plain', 'compiled'):
        if step == 'compiled':
            model.compile(backend=backend)
        torch.manual_seed(0)
        model.zero_grad()
        terms = model(images, LABELS, mode='loss')
        sum(terms.values()).backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        found.append((terms, gradients))
    assert graphs
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('method', METHODS)
def test_initialisation_reaches_every_part_that_names_one(method, tiny_backbone, tmp_path):
    # A plain torch container hides its modules from mmengine's init_weights.
    path = tmp_path / 'teacher.pth'
    torch.save(Classifier(TEACHER, K, 32).state_dict(), path)
    model = build(method, tiny_backbone, checkpoint=str(path))
    model.init_weights()
    missed = [
        name
        for name, module in model.named_modules()
        if isinstance(module, BaseModule) and module.init_cfg and not module.is_init
    ]
    assert missed == []


def test_the_terms_are_a_function_of_the_images_and_labels(model, images):
    model.eval()  # batch-norm statistics stay
    first, again = (model(images, LABELS, mode='loss') for _ in range(2))
    assert first == again
    order = torch.tensor([2, 0, 3, 1])
    shuffled = model(images[order], LABELS[order], mode='loss')
    for name, term in first.items():
        torch.testing.assert_close(shuffled[name], term, rtol=1e-4, atol=1e-6)


def test_predictions_are_probabilities_of_what_tensor_mode_returns(model, images):
    model.eval()
    logits = model(images)
    main = logits[-1] if isinstance(logits, tuple) else logits
    samples = model(images, LABELS, mode='predict')
    scores = torch.stack([sample.pred_score for sample in samples])
    torch.testing.assert_close(scores, main.softmax(dim=1))
    if isinstance(logits, tuple):
        heads = torch.stack([sample.branch_scores for sample in samples])
        torch.testing.assert_close(heads, torch.stack(logits, dim=1).softmax(dim=2))


def test_what_ships_gives_the_main_logits_and_holds_nothing_else(model, images):
    model.eval()
    logits = model(images)
    deployed = model.deployed()
    assert torch.equal(deployed(images), logits[-1] if isinstance(logits, tuple) else logits)
    reference = model
    if not isinstance(model, MFAKD):  # which needs all that it has
        network = dict(arch='resnet18', base_channels=4, stem_channels=4)
        reference = Classifier(network, num_classes=K, image_size=32)
    assert deployed.state_dict().keys() == reference.state_dict().keys()


def test_one_step_changes_every_head_and_a_round_trip_restores_it(model, images):
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    sum(model(images, LABELS, mode='loss').values()).backward()
    optimizer.step()
    model.eval()
    after = model(images)
    state = copy.deepcopy(model.state_dict())
    model.load_state_dict(before, strict=True)
    changed = model(images)
    pairs = zip(after, changed, strict=True) if isinstance(after, tuple) else [(after, changed)]
    assert all(not torch.equal(a, b) for a, b in pairs)
    model.load_state_dict(state, strict=True)
    for a, b in zip(model(images), after, strict=True):
        assert torch.equal(a, b)


def test_modes_return_the_model_and_unknown_ones_are_refused(model, images):
    assert model.eval() is model and model.train() is model
    with pytest.raises(ValueError, match="mode='loss' needs labels"):
        model(images, mode='loss')
    with pytest.raises(ValueError, match="mode='train' must be"):
        model(images, mode='train')


def test_other_sizes_than_the_probed_one_work(model):
    model.eval()
    for size in ((32, 48), (40, 40)):
        logits = model(torch.zeros(2, 3, *size))
        heads = logits if isinstance(logits, tuple) else (logits,)
        assert {tuple(z.shape) for z in heads} == {(2, K)}


def test_models_build_without_touching_the_random_state_of_the_dry_run(model):
    # The state is moved by drawing weights only, so two builds from one seed are equal.
    network = dict(arch='resnet18', base_channels=4, stem_channels=4)
    cfg = config_of(type(model).__name__, network)
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(MODELS.build(copy.deepcopy(cfg)).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_teachers_are_no_part_of_what_trains_and_saves(distiller):
    teacher = {id(p) for each in distiller.teachers for p in each.parameters()}
    assert teacher and not teacher & {id(p) for p in distiller.parameters()}
    assert not any(name.startswith('teachers') for name in distiller.state_dict())
    assert not any(p.requires_grad for each in distiller.teachers for p in each.parameters())
    assert copy.deepcopy(distiller).teachers[0] is distiller.teachers[0]


def test_training_leaves_teachers_bitwise_unchanged(distiller, images):
    before = [copy.deepcopy(each.state_dict()) for each in distiller.teachers]
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1, weight_decay=0.1)
    head = copy.deepcopy(distiller.head.state_dict())
    for _ in range(2):
        distiller.train()
        optimizer.zero_grad()
        sum(distiller(images, LABELS, mode='loss').values()).backward()
        optimizer.step()
    for each, state in zip(distiller.teachers, before, strict=True):
        assert not any(module.training for module in each.modules())
        assert all(p.grad is None for p in each.parameters())
        assert all(torch.equal(value, state[name]) for name, value in each.state_dict().items())
    reused = isinstance(distiller, MFAKD)
    assert not reused or not any(module.training for module in distiller.head.modules())
    after = distiller.head.state_dict()
    assert all(torch.equal(after[name], head[name]) for name in head) == reused


def test_a_saved_student_needs_no_teacher_to_predict(distiller, images, tiny_backbone):
    distiller.eval()
    other = MODELS.build(config_of(type(distiller).__name__, tiny_backbone)).eval()
    assert not torch.equal(other(images), distiller(images))
    other.load_state_dict(distiller.state_dict(), strict=True)
    assert torch.equal(other(images), distiller(images))


def train(rank, store, backbone, results):
    """A few steps of every model; the second one already stops where a gradient is missing."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    weights = {}
    with DefaultScope.overwrite_default_scope('mmkdfuse'):
        models = {method: config_of(method, backbone) for method in METHODS}
        models.update({name: Config.fromfile(CONFIGS / f'{name}.py').model for name in SHIPPED})
        for name, cfg in models.items():
            torch.manual_seed(rank)
            model = DistributedDataParallel(MODELS.build(cfg), find_unused_parameters=False)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
            for _ in range(3):
                images, labels = torch.randn(4, 3, 32, 32), torch.randint(K, (4,))
                optimizer.zero_grad()
                sum(model(images, labels, mode='loss').values()).backward()
                optimizer.step()
            weights[name] = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.save(weights, os.path.join(results, f'{rank}.pt'))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_every_method_to_the_same_weights(tmp_path, tiny_backbone):
    multiprocessing.spawn(
        train, (str(tmp_path / 'store'), tiny_backbone, str(tmp_path)), nprocs=2, join=True
    )
    first, second = (torch.load(tmp_path / f'{rank}.pt', weights_only=True) for rank in (0, 1))
    assert set(first) == {*METHODS, *SHIPPED}
    for name in first:
        assert first[name].isfinite().all(), name
        assert torch.equal(first[name], second[name]), name
