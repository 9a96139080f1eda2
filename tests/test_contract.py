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
from mmkdfuse.models import MFAKD, Classifier, Distiller, Loss, Trainable
from mmkdfuse.models.inference.truncated_backbone import Skip
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import Reads, TapKeys, Taps

K = 5
LABELS = torch.tensor([0, 3, 4, 3])
CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
# As shipped, full width: two networks of the paper and another method.
SHIPPED = (
    *('kfmsd/squeezenet_cifar100', 'kfmsd/mobilenet_v1_cifar100'),
    'comparison/byot_journal_mobilenet_v1_cifar100',
)


def registered(base):
    """Names of the classes of this package's registry below a class."""
    found = MODELS.module_dict.items()
    return sorted(
        name for name, type_ in found if isinstance(type_, type) and issubclass(type_, base)
    )


METHODS, DISTILLERS, LOSSES = map(registered, (Trainable, Distiller, Loss))
ALONE = [name for name in METHODS if name not in DISTILLERS]
TEACHER = dict(arch='resnet18', base_channels=8, stem_channels=4)
NETWORK = dict(arch='resnet18', base_channels=4, stem_channels=4)
# Students with branches, as a config names them.
STUDENTS = dict(
    KFMSD=dict(type='KFMSD', backbone=NETWORK),
    BYOT=dict(type='BYOT', backbone=NETWORK),
    DML=dict(type='DML', backbone=NETWORK, peers=2),
)


def config_of(method, network, **teacher):
    """Config of a method on a network; what distils gets a wider teacher."""
    cfg = dict(type=method, num_classes=K, image_size=32)
    if method not in DISTILLERS:
        return dict(cfg, backbone=network)
    if MODELS.get(method) is Distiller:  # no method, but what all of them are
        cfg['losses'] = [dict(type='KDLoss')]
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
    assert {'Classifier', 'BranchedClassifier', 'PeerClassifier'} <= set(ALONE)
    assert {'KFMSD', 'BYOT', 'FKD', 'DML'} <= set(ALONE)
    assert {'Distiller', 'MFAKD', 'SimKD', 'KD', 'DKD', 'FitNet'} <= set(DISTILLERS)
    assert {'ClassificationLoss', 'KDLoss', 'DKDLoss', 'HintLoss', 'AlignmentLoss'} <= set(LOSSES)
    assert {'MutualKLLoss', 'BranchFeatureLoss', 'HeadDistillationLoss'} <= set(LOSSES)


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
        reference = Classifier(NETWORK, num_classes=K, image_size=32)
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
    cfg = config_of(type(model).__name__, NETWORK)
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


def test_modules_of_teachers_have_the_type_of_the_model_and_never_train(teaching):
    model = teaching.double().train()
    for teacher in model.teachers:
        tensors = [*teacher.named_parameters(), *teacher.named_buffers()]
        tensors += [*teacher.backbone.named_parameters(), *teacher.backbone.named_buffers()]
        floating = {name: tensor for name, tensor in tensors if tensor.is_floating_point()}
        assert len(floating) > 20
        assert {name for name, t in floating.items() if t.dtype != torch.float64} == set()
        assert not any(tensor.requires_grad for _, tensor in tensors)
        modules = [*teacher.modules(), *teacher.backbone.modules()]
        assert not any(module.training for module in modules)
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    terms = model(images, LABELS, mode='loss')
    sum(terms.values()).backward()
    assert all(p.grad is None for each in model.teachers for p in each.parameters())


TEACHERS = dict(
    plain=dict(TEACHER),
    foreign=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=K, in_channels=32),
    ),
    **STUDENTS,
)
WHAT_IS_READ = dict(
    main=[dict(type='KDLoss')],
    heads=[dict(type='KDLoss', teacher_heads='all')],
    hint=[dict(type='HintLoss', stage=1)],
)


@pytest.fixture(params=[(teacher, read) for teacher in TEACHERS for read in WHAT_IS_READ], ids=str)
def teaching(request):
    """A student of every kind of teacher, of which different things are read."""
    teacher, read = request.param
    torch.manual_seed(0)
    model = Distiller(NETWORK, TEACHERS[teacher], K, 32, losses=WHAT_IS_READ[read])
    for each in model.teachers:
        each.speed_up()
    return model


def calls_of(*networks):
    """Names of the modules that run from now on, and the list that they are added to."""
    calls = []

    def note(name):
        return lambda module, *_: calls.append(name) if not isinstance(module, Skip) else None

    for network in networks:
        for name, module in network.named_modules():
            module.register_forward_hook(note(name))
    return calls


@pytest.mark.parametrize('fast', [False, True])
def test_of_a_teacher_runs_no_more_than_what_is_read(images, fast):
    first = MODELS.build(dict(config_of('FitNet', NETWORK), stage=1))
    (teacher,) = first.teachers
    if fast:
        teacher.speed_up()
    network, running = calls_of(teacher.network), calls_of(teacher.backbone)
    first(images, LABELS, mode='loss')
    assert network == []  # it is a copy without the later stages that runs
    assert {'conv1', 'layer1', 'layer1.1.conv2'} <= set(running)
    assert not [name for name in running if name.startswith(('layer2', 'layer3', 'layer4'))]
    # Noticed is what runs where a deeper stage is read.
    last = MODELS.build(dict(config_of('FitNet', NETWORK), stage=4))
    running = calls_of(last.teachers[0].backbone)
    last(images, LABELS, mode='loss')
    assert {'layer1.1.conv2', 'layer4.1.conv2'} <= set(running)


@pytest.mark.parametrize('name', TEACHERS)
def test_of_a_teacher_that_no_loss_reads_nothing_runs(images, name):
    model = MODELS.build(dict(config_of('MFAKD', NETWORK), teacher=TEACHERS[name], loss='ce'))
    (teacher,) = model.teachers
    teacher.speed_up()
    assert teacher.backbone is teacher.network.backbone  # no copy was made
    calls = calls_of(teacher.network)
    assert set(model(images, LABELS, mode='loss')) == {'loss_ce'}
    assert calls == []
    with pytest.raises(ValueError, match='teacher=.* is read by no loss: leave it out'):
        Distiller(NETWORK, TEACHERS[name], K, 32)


@pytest.mark.parametrize('name', STUDENTS)
def test_of_a_branched_teacher_that_is_read_at_its_main_head_no_branch_runs(images, name):
    model = Distiller(NETWORK, STUDENTS[name], K, 32, kd_weight=1.0)
    (teacher,) = model.teachers
    beside = [teacher.network.peers] if name == 'DML' else [teacher.network.neck]
    beside += [teacher.network.head.branches] if name != 'DML' else []
    calls = calls_of(*beside)
    model(images, LABELS, mode='loss')
    assert [name for name in calls if not name.startswith('pooling')] == []
    teacher(images, TapKeys(logits=teacher.head_names))
    assert [name for name in calls if not name.startswith('pooling')]


@pytest.mark.parametrize('method', ALONE)
def test_every_method_takes_a_teacher_and_its_losses(method, images, tiny_backbone):
    torch.manual_seed(0)
    cfg = config_of(method, tiny_backbone)
    plain = MODELS.build(copy.deepcopy(cfg))
    torch.manual_seed(0)
    model = MODELS.build(dict(cfg, teacher=TEACHER, losses=[dict(type='KDLoss')]))
    terms = model(images, LABELS, mode='loss')
    assert set(terms) == {*plain(images, LABELS, mode='loss'), 'loss_kd'}
    assert terms['loss_kd'].isfinite() and terms['loss_kd'] > 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sum(terms.values()).backward()
    missed = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert missed == []
    before = model.eval()(images)
    optimizer.step()
    pairs = zip(before, model(images), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs)
    assert model.state_dict().keys() == plain.state_dict().keys()  # no teacher in checkpoints
    with pytest.raises(ValueError, match='KDLoss: teacher=None, expected at least one teacher'):
        MODELS.build(dict(cfg, losses=[dict(type='KDLoss')]))


@pytest.mark.parametrize('name', STUDENTS)
def test_a_student_of_several_heads_is_distilled_as_any_other(name, images):
    torch.manual_seed(0)
    alone = MODELS.build(dict(STUDENTS[name], num_classes=K, image_size=32))
    losses = [dict(type='KDLoss', heads='all')]
    model = Distiller(STUDENTS[name], TEACHER, K, 32, losses=losses)
    assert model.state_dict().keys() == alone.state_dict().keys()
    model.load_state_dict(alone.state_dict())
    model.eval(), alone.eval()
    own = alone(images, LABELS, mode='loss')
    terms = model(images, LABELS, mode='loss')
    assert terms.pop('loss_kd') > 0
    assert terms == own
    for found, expected in zip(model(images), alone(images), strict=True):
        assert torch.equal(found, expected)
    pairs = zip(
        model(images, LABELS, mode='predict'), alone(images, LABELS, mode='predict'), strict=True
    )
    for found, expected in pairs:
        assert torch.equal(found.pred_score, expected.pred_score)
        assert torch.equal(found.branch_scores, expected.branch_scores)
    assert model.heads() == alone.heads()
    assert torch.equal(model.deployed()(images), alone(images)[-1])
    reference = Classifier(NETWORK, num_classes=K, image_size=32)
    assert model.deployed().state_dict().keys() == reference.state_dict().keys()
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sum(model(images, LABELS, mode='loss').values()).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    optimizer.step()
    changed = model.eval()(images)
    assert not any(torch.equal(a, b) for a, b in zip(changed, alone(images), strict=True))


class Everything(Loss):
    """Reads all stages of all networks, so that every other loss could."""

    def __init__(self):
        super().__init__()
        self.reads = Reads(student=Taps(stages='all'), teacher=Taps(stages='all'))

    def terms(self, step):
        assert [len(each.stages) for each in (step.student, *step.teachers)] == [4, 4]
        return {'loss_all': 0 * step.student.stage(1).mean()}


def model_with(loss):
    """A model that trains by one loss, and by one more that reads all stages."""
    torch.manual_seed(0)
    if loss == 'AlignmentLoss':  # reads a map that only this student has
        return MODELS.build(dict(config_of('MFAKD', NETWORK), losses=[Everything()]))
    student = dict(type='BranchedClassifier', backbone=NETWORK)
    losses = [dict(type=loss), Everything()]
    return Distiller(student, TEACHER, K, 32, losses=losses)


@pytest.mark.parametrize('name', LOSSES)
def test_every_loss_says_what_it_reads_and_gets_no_more(name, images, monkeypatch):
    kind = MODELS.get(name)
    first, second = kind(), kind()
    assert all(isinstance(vars(loss)['reads'], Reads) for loss in (first, second))
    assert first.reads == second.reads
    assert first.reads != Reads()
    model = model_with(name)
    assert all(term.isfinite() for term in model(images, LABELS, mode='loss').values())
    connected = next(each for each in model._connected if type(each.loss) is kind)
    for who, taps in (('student', connected.student), ('teachers', connected.teachers[0])):
        unread = next(n for n in range(1, 5) if f'stage{n}' not in taps.maps)

        def reach(loss, step, who=who, unread=unread):
            output = step.student if who == 'student' else step.teachers[0]
            return {'loss_stolen': output.stage(unread).mean()}

        monkeypatch.setattr(kind, 'terms', reach)
        sentence = f"^{name} reads the map 'stage{unread}', which its `reads` do not ask for; "
        with pytest.raises(RuntimeError, match=sentence) as error:
            model(images, LABELS, mode='loss')
        assert str(error.value).endswith('.') and '. ' not in str(error.value)


@pytest.mark.parametrize('name', LOSSES)
def test_a_loss_of_weight_zero_is_left_out(name):
    student = dict(type='BranchedClassifier', backbone=NETWORK)
    losses = [dict(type=name, weight=0.0), Everything()]
    model = Distiller(student, TEACHER, K, 32, losses=losses)
    assert list(model.losses) == ['ClassificationLoss', 'Everything']
    assert not any(key.startswith('losses') for key in model.state_dict())


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
