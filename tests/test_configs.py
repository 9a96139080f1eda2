"""Every config file: it loads, passes the preflight, builds its model alone and infers."""

import ast
import re
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmkdfuse.engine.config_check import check_config
from mmkdfuse.engine.preflight import preflight
from mmkdfuse.models import MFAKD
from mmkdfuse.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
LEAVES = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
NAMES = [path.relative_to(CONFIGS).with_suffix('').as_posix() for path in LEAVES]
BASES = CONFIGS / '_base_'
# Bases that say which model part they hold, `network` or `pair`, and meet any method.
PROTOCOLS = {p.stem: p for p in sorted(BASES.glob('protocols/*_*k_*e*.py'))}
WRITTEN = {p.stem: p for p in sorted(BASES.glob('pairs/*.py'))}
METHODS = {p: Config.fromfile(p) for p in sorted(BASES.glob('methods/*.py'))}
TAUGHT = [p for p, cfg in METHODS.items() if 'verify_teacher' in cfg.default_hooks]
UNTAUGHT = [p for p, cfg in METHODS.items() if p not in TAUGHT and 'model' in cfg]
TAUGHT.remove(BASES / 'methods' / 'teacher_student.py')  # what they share
EPOCHS = {'cifar10': (200, [66, 133, 190], 128), 'tiny_imagenet': (100, [33, 66, 90], 64)}
EPOCHS['cifar100'] = EPOCHS['cifar10']
CLASSES = {'cifar10': (10, 32), 'cifar100': (100, 32), 'tiny_imagenet': (200, 64)}
# Rows of Tables 2 to 4 of paper 000.
NETWORKS = {
    'cifar10': ('resnet18', 'resnet50', 'wrn50_2', 'resnext50_32x4d', 'vgg19'),
    'cifar100': (
        *('resnet18', 'resnet34', 'resnet50', 'wrn50_2', 'resnext50_32x4d'),
        *('vgg11', 'vgg16', 'vgg19', 'squeezenet', 'mobilenet_v1'),
    ),
    'tiny_imagenet': ('resnet18', 'resnet34', 'resnet50', 'vgg16', 'squeezenet', 'mobilenet_v1'),
}
ROWS = [(data, network) for data, networks in NETWORKS.items() for network in networks]
# Students with a teacher are called METHOD/TEACHER_STUDENT_DATA or WHAT/.._TEACHER_STUDENT_.._DATA,
# with the names that teacher/NETWORK_DATA has.
DATA = '(cifar100|tiny_imagenet|(?<!tiny_)imagenet)'
TRAINED = sorted(
    {re.sub(f'_{DATA}$', '', name[8:]) for name in NAMES if 'teacher/' in name},
    key=len,
    reverse=True,
)
NETWORK = f'({"|".join(TRAINED)})'
PAIR = re.compile(rf'(?:^|.*[/_]){NETWORK}_{NETWORK}_(?:\w+_)?{DATA}$')
DISTILLED = [name for name in NAMES if PAIR.match(name)]
ABLATIONS = [name for name in DISTILLED if name.startswith('ablation/')]
REDUCED = [name for name in NAMES if name.startswith('reduced/')]
# Which pair a config takes: its own name without the method, or without what an ablation changes.
TAKEN = {name: '{}_{}_{}'.format(*PAIR.match(name).groups()) for name in DISTILLED}
for name in REDUCED:
    TAKEN.update((name, pair) for pair in WRITTEN if name.endswith(f'_{pair}'))
CHECKED = [
    pytest.param(name, marks=pytest.mark.slow) if name in ABLATIONS else name for name in NAMES
]
# Neither paper has ImageNet.
OURS = {name for name in NAMES if name.endswith('_imagenet') and 'tiny' not in name}
PAPER = [
    name
    for name in NAMES
    if name.split('/')[0] in ('kfmsd', 'baseline', 'comparison')
    and name not in DISTILLED
    and name not in OURS
]
TEACHERS = [name for name in NAMES if name.startswith('teacher/') and name not in OURS]
ALONE = {name: name.replace('kfmsd', 'baseline', 1) for name in NAMES if 'kfmsd' in name}
PAIRS = [(name, alone) for name, alone in ALONE.items() if alone in NAMES]
SHARED = ('optim_wrapper', 'param_scheduler', 'train_cfg', 'val_cfg', 'test_cfg', 'auto_scale_lr')
SHARED += ('train_dataloader', 'val_dataloader', 'test_dataloader', 'data_preprocessor')
SHARED += ('randomness', 'env_cfg', 'num_classes', 'image_size')


@pytest.fixture(scope='module')
def config():
    """Reads a config by name, once."""
    read = {}

    def load(name):
        if name not in read:
            read[name] = Config.fromfile(CONFIGS / f'{name}.py')
        return read[name]

    return load


@pytest.fixture(scope='module')
def report(config):
    """Runs the preflight of a config without its data, once."""
    made = {}

    def run(name):
        if name not in made:
            made[name] = preflight(config(name), data=False)
        return made[name]

    return run


@pytest.mark.parametrize('name', CHECKED)
def test_config_passes_the_preflight(name, config, report):
    cfg, found = config(name), report(name)
    # A teacher's classifier that is reused stays as it is.
    frozen = cfg.model.num_classes if issubclass(MODELS.get(cfg.model.type), MFAKD) else 0
    assert found.parameters - found.trainable >= frozen
    assert found.trainable == found.parameters or frozen
    assert found.parameters >= found.deployed.parameters
    assert found.batch_size == cfg.train_dataloader.batch_size
    assert found.input_shape == (3, cfg.model.image_size, cfg.model.image_size)
    assert cfg.default_hooks.checkpoint.save_best in found.metrics


@pytest.mark.parametrize('name', [name for name in NAMES if name not in ABLATIONS])
def test_the_model_alone_infers(name, config):
    """Without Runner, files and the top-level keys of the config."""
    cfg = config(name)
    init_default_scope('mmkdfuse')
    model = MODELS.build(cfg.model).eval()
    with torch.no_grad():
        logits = model(torch.zeros(1, 3, cfg.model.image_size, cfg.model.image_size))
    logits = logits if isinstance(logits, tuple) else (logits,)
    assert {tuple(z.shape) for z in logits} == {(1, cfg.model.num_classes)}
    assert len(logits) == len(model.head_names)


def lines_of_code(path):
    """Lines that hold code: not blank, not a comment, not of the docstring."""
    source = path.read_text()
    docstring = ast.parse(source).body[0]
    text = source.splitlines()
    text[docstring.lineno - 1 : docstring.end_lineno] = []
    return [line for line in text if line.strip() and not line.strip().startswith('#')]


@pytest.mark.parametrize('path', LEAVES, ids=NAMES)
def test_leaf_files_are_short_and_say_what_they_are(path):
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert len(lines_of_code(path)) <= 15


@pytest.mark.parametrize('name', NAMES)
def test_validation_and_test_read_the_same_images(name, config):
    cfg = config(name)
    assert cfg.test_dataloader == cfg.val_dataloader
    assert cfg.test_evaluator == cfg.val_evaluator
    assert cfg.val_dataloader.sampler.shuffle is False
    assert cfg.train_dataloader.sampler.shuffle is True
    assert '_delete_' not in cfg.train_dataloader.dataset


def test_two_files_say_the_same_only_where_both_are_rows_of_a_table(config):
    printed = ('ablation/', 'kfmsd/')
    seen = {}
    for name in NAMES:
        if not name.startswith(printed):
            seen.setdefault(repr(config(name).to_dict()), []).append(name)
    assert [names for names in seen.values() if len(names) > 1] == []


@pytest.mark.parametrize('name', PAPER)
def test_schedule_of_the_paper(name, config):
    cfg = config(name)
    data = next(data for data in CLASSES if name.endswith(f'_{data}'))
    epochs, milestones, batch = EPOCHS[data]
    assert cfg.optim_wrapper.to_dict() == dict(
        optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4)  # no Nesterov
    )
    assert cfg.param_scheduler.to_dict() == dict(
        type='MultiStepLR', by_epoch=True, milestones=milestones, gamma=0.1
    )
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == batch
    assert cfg.auto_scale_lr.enable
    assert (cfg.model.num_classes, cfg.model.image_size) == CLASSES[data]
    assert f'{cfg.model.backbone}_{data}' in name
    augmentation = cfg.data_preprocessor
    assert (augmentation.crop_padding, augmentation.flip_prob) == (4, 0.5)


@pytest.mark.parametrize('name', [name for name in PAPER if name.startswith('kfmsd')])
def test_hyper_parameters_of_the_paper(name, config):
    model = config(name).model
    assert (model.gamma, model.delta, model.mutual_loss.tau) == (0.7, 0.03, 3.0)
    assert (model.neck.fuse, model.predict_from) == ('fused', 'main')


@pytest.mark.parametrize(('kfmsd', 'baseline'), PAIRS)
def test_the_network_alone_gets_the_same_training(kfmsd, baseline, config):
    ours, alone = config(kfmsd), config(baseline)
    assert alone.model.type == 'Classifier'
    for key in SHARED:
        assert ours.get(key) == alone.get(key), key
    for key in ('num_classes', 'image_size', 'backbone'):
        assert ours.model[key] == alone.model[key]
    hooks = [{k: h for k, h in c.default_hooks.items() if k != 'checkpoint'} for c in (ours, alone)]
    assert hooks[0] == hooks[1]


@pytest.mark.parametrize('folder', ['kfmsd', 'baseline'])
def test_every_row_of_the_tables_has_its_plain_path(folder):
    found = {name for name in NAMES if name.startswith(f'{folder}/')} - OURS
    assert found == {f'{folder}/{network}_{data}' for data, network in ROWS}
    assert len(found) == 21


@pytest.mark.parametrize('network', NETWORKS['cifar100'])
@pytest.mark.parametrize('data', CLASSES)
def test_every_other_combination_is_an_inherited_config(network, data, tmp_path):
    path = tmp_path / 'leaf.py'
    base = CONFIGS / 'kfmsd' / f'resnet18_{data}.py'
    path.write_text(f'_base_ = {str(base)!r}\nmodel = dict(backbone={network!r})\n')
    cfg = Config.fromfile(path)
    assert check_config(cfg) == []
    assert (cfg.model.backbone, cfg.model.num_classes) == (network, CLASSES[data][0])


@pytest.mark.parametrize('name', sorted(OURS))
def test_schedule_on_imagenet(name, config):
    """mmpretrain's, and images as its networks for ImageNet get them."""
    cfg = config(name)
    assert cfg.optim_wrapper.optimizer.to_dict() == dict(
        type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4
    )
    assert cfg.param_scheduler.milestones == [30, 60, 90]
    assert (cfg.train_cfg.max_epochs, cfg.auto_scale_lr.base_batch_size) == (100, 256)
    assert cfg.train_dataloader.batch_size == 32
    assert (cfg.model.num_classes, cfg.model.image_size) == (1000, 224)
    crops = dict(train=['RandomResizedCrop', 'RandomFlip'], val=['ResizeEdge', 'CenterCrop'])
    for split, steps in crops.items():
        data = cfg[f'{split}_dataloader'].dataset
        assert (data.type, data.split) == ('ImageNet', split)
        assert [step.type for step in data.pipeline][1:] == [*steps, 'PackInputs']


@pytest.mark.parametrize('name', TEACHERS)
def test_schedule_of_the_teachers(name, config):
    cfg = config(name)
    arch = cfg.model.backbone if isinstance(cfg.model.backbone, str) else cfg.model.backbone.arch
    lr = 0.01 if arch.startswith(('shufflenet', 'mobilenet')) else 0.05
    assert cfg.optim_wrapper.optimizer.to_dict() == dict(
        type='SGD', lr=lr, momentum=0.9, weight_decay=5e-4
    )
    assert cfg.param_scheduler.milestones == [150, 180, 210]
    assert cfg.train_cfg.max_epochs == 240
    assert cfg.train_dataloader.batch_size == 64


@pytest.mark.parametrize('name', DISTILLED)
def test_pairs_are_those_of_their_name(name, config):
    """Networks, schedule and data are those with which student and teacher train alone."""
    teacher, student, data = PAIR.match(name).groups()
    cfg, alone, trained = (
        config(name), config(f'teacher/{student}_{data}'), config(f'teacher/{teacher}_{data}')
    )  # fmt: skip
    assert cfg.model.student == alone.model.backbone
    assert cfg.model.teacher.arch == trained.model.backbone
    path = f'work_dirs/teacher/{teacher}_{data}/epoch_{trained.train_cfg.max_epochs}.pth'
    assert cfg.model.teacher.checkpoint == path
    for key in SHARED:
        assert cfg.get(key) == alone.get(key), key
    assert cfg.model.num_classes == alone.model.num_classes
    assert cfg.default_hooks.verify_teacher.type == 'VerifyTeacherHook'
    assert cfg.data_preprocessor == trained.data_preprocessor


@pytest.mark.parametrize('name', TAKEN)
def test_student_and_teacher_come_from_the_pair_of_the_name(name, config):
    cfg, pair = config(name), Config.fromfile(WRITTEN[TAKEN[name]])
    for key in ('student', 'teacher', 'num_classes', 'image_size'):
        assert cfg.model[key] == cfg.pair[key] == pair.pair[key], key
    for key in set(SHARED) & set(pair):
        assert cfg[key] == pair[key], key


def test_every_pair_is_taken_by_every_method_that_compares_on_it():
    assert set(TAKEN.values()) == set(WRITTEN)
    reduced = {(name, pair) for name, pair in TAKEN.items() if name in REDUCED}
    pairs = {pair for _, pair in reduced}
    assert reduced == {
        (f'reduced/{method}_{pair}', pair) for method in ('kd', 'simkd', 'mfakd') for pair in pairs
    }


def leaf(path, bases, text):
    path.write_text(f'_base_ = {[str(base) for base in bases]}\n{text}\n')
    return Config.fromfile(path)


@pytest.mark.parametrize('method', TAUGHT, ids=lambda path: path.stem)
@pytest.mark.parametrize('pair', WRITTEN)
def test_a_pair_meets_any_method_with_a_teacher(pair, method, tmp_path):
    cfg = leaf(tmp_path / 'leaf.py', [WRITTEN[pair], method], 'model = {{_base_.pair}}')
    assert check_config(cfg) == []
    assert cfg.model.type == METHODS[method].model.type
    assert {**cfg.model, **cfg.pair} == cfg.model


@pytest.mark.parametrize('method', UNTAUGHT, ids=lambda path: path.stem)
@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_a_protocol_meets_any_method_without_a_teacher(protocol, method, tmp_path):
    text = 'model = {{_base_.network}}'
    cfg = leaf(tmp_path / 'leaf.py', [PROTOCOLS[protocol], method], text)
    assert check_config(cfg) == []
    assert {**cfg.model, **cfg.network} == cfg.model


@pytest.mark.parametrize('name', [name for name in NAMES if name.startswith('mfakd/')])
def test_another_pair_is_an_inherited_config(name, tmp_path):
    teacher = dict(arch='wrn40_2', checkpoint='wrn40_2.pth')
    text = f"model = dict(student='shufflenet_v2', teacher={teacher})"
    student = Config.fromfile(CONFIGS / f'{name}.py').model.student
    if not isinstance(student, str):  # mmengine merges dicts
        text = text.replace("'shufflenet_v2'", "dict(_delete_=True, arch='shufflenet_v2')")
    cfg = leaf(tmp_path / 'leaf.py', [CONFIGS / f'{name}.py'], text)
    assert check_config(cfg) == []
    assert cfg.model.student in ('shufflenet_v2', dict(arch='shufflenet_v2'))
    assert cfg.model.teacher == teacher


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_protocols_do_what_their_name_says(protocol):
    match = re.match(r'(cifar100?)(?:_(\d+)px)?_(\d+)k_(\d+)e', protocol)
    data, side, thousands, epochs = match.group(1), *map(int, match.groups(default=0)[1:])
    cfg = Config.fromfile(PROTOCOLS[protocol])
    assert (cfg.num_classes, cfg.image_size) == (CLASSES[data][0], side or 32)
    assert (cfg.network.num_classes, cfg.network.image_size) == (cfg.num_classes, cfg.image_size)
    assert (cfg.train_dataloader.dataset.get('subset') or 50000) == 1000 * thousands
    assert 'subset' not in cfg.val_dataloader.dataset
    for split, loader in (('train', 'train'), ('test', 'val'), ('test', 'test')):
        images = cfg[f'{loader}_dataloader'].dataset
        assert (images.type, images.data_prefix) == ('ImageFolder', split)
        assert (images.data_root, images.get('resize') or 0) == (f'data/{data}_images', side)
    assert cfg.data_preprocessor.channels_last
    assert cfg.data_preprocessor.crop_padding == cfg.image_size // 8
    assert cfg.train_cfg.max_epochs == cfg.train_cfg.val_interval == epochs
    warmup, fall = cfg.param_scheduler
    assert (warmup.type, fall.type) == ('LinearLR', 'CosineAnnealingLR')
    assert 5 * warmup.end == 5 * fall.begin == fall.end == epochs
    assert (warmup.start_factor, fall.eta_min) == (0.1, 1e-4)
    assert cfg.train_dataloader.batch_size == 128
    assert cfg.optim_wrapper.to_dict() == dict(
        type='BF16OptimWrapper',
        optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4),
    )


@pytest.mark.parametrize('name', REDUCED)
def test_reduced_configs_follow_the_protocol_of_their_name(name, config):
    ends = [protocol for protocol in PROTOCOLS if name.endswith(f'_{protocol}')]
    assert ends
    cfg, protocol = config(name), Config.fromfile(PROTOCOLS[ends[0]])
    for key in set(SHARED) & set(protocol):
        assert cfg[key] == protocol[key], key


def test_every_row_of_paper_001_has_its_plain_path():
    rows = [
        *('wrn40_2_wrn40_1', 'resnet32x4_resnet8x4', 'resnet110x2_resnet110'),
        *('resnet110x2_resnet116', 'resnet32x4_vgg8', 'wrn40_2_resnet8x4'),
        *('resnet32x4_shufflenet_v2', 'resnet32x4_shufflenet_v1', 'resnet32x4_wrn16_2'),
        *('resnet110x2_shufflenet_v2', 'wrn40_2_mobilenet_v2', 'resnet32x4_mobilenet_v2_x2'),
        *('resnet32x4_wrn40_2', 'resnet32x4_shufflenet_v2_x1_5'),
    ]
    tiny = ['vgg19_vgg8', 'vgg16_vgg11', 'resnet34_resnet10', 'resnet50_resnet10']
    found = {name for name in NAMES if name.startswith('mfakd/')} - OURS
    assert found == {f'mfakd/{pair}_cifar100' for pair in rows} | {
        f'mfakd/{pair}_tiny_imagenet' for pair in tiny
    }
    projectors = {name for name in NAMES if name.startswith('ablation/mfakd_projectors/')}
    assert projectors == {
        f'ablation/mfakd_projectors/{pair}_{branch}_cifar100'
        for pair in rows
        for branch in ('bottleneck', 'sandglass', 'sandglass_plus')
    }


def named_change(folder, change):
    """What an ablation of MFAKD called ``folder/.._change_..`` changes in the model."""
    if folder == 'mfakd_losses':
        return dict(loss=change)
    if folder == 'mfakd_beta':
        return dict(beta=float(change.removeprefix('beta').replace('_', '.')))
    if folder == 'mfakd_upsampling':
        return dict(connector=dict(upsample=change))
    if folder == 'mfakd_projectors':
        return dict(connector=dict(branches=(change,), upsample=None))
    alignment = dict(sda=dict(branches=('pointwise',)), mbca=dict(upsample=None))
    return dict(connector=alignment[change])


@pytest.mark.parametrize('name', ABLATIONS)
def test_ablations_change_what_their_name_says_and_nothing_else(name, config):
    folder, stem = name.split('/')[1:]
    teacher, student, data = PAIR.match(name).groups()
    changes = named_change(
        folder, stem.removeprefix(f'{teacher}_{student}_').removesuffix(f'_{data}')
    )
    full = config(f'mfakd/{teacher}_{student}_{data}').model.to_dict()
    if 'connector' in changes:
        changes['connector'] = {**full['connector'], **changes['connector']}
    model = config(name).model.to_dict()
    assert model == {**full, **changes}
    assert model != full


@pytest.mark.parametrize('network', ['resnet18', 'resnet34'])
@pytest.mark.parametrize(
    ('terms', 'weights'),
    [('tl', (0, 0)), ('tl_ms', (0.7, 0)), ('tl_f', (0, 0.03)), ('tl_ms_f', (0.7, 0.03))],
)
def test_rows_of_table_5(network, terms, weights, config):
    model = config(f'ablation/kfmsd_losses/{network}_{terms}_cifar100').model
    assert (model.gamma, model.delta) == weights
    assert model.backbone == network


@pytest.mark.parametrize('network', ['resnet18', 'vgg11', 'mobilenet_v1'])
@pytest.mark.parametrize('method', ['byot_journal', 'byot_conference', 'rsd', 'fkd', 'dml'])
def test_self_distillation_of_table_6(method, network, config):
    ours, alone = (
        config(f'comparison/{method}_{network}_cifar100'),
        config(f'baseline/{network}_cifar100'),
    )
    for key in SHARED:
        assert ours.get(key) == alone.get(key), key
    assert ours.model.backbone == network


@pytest.mark.parametrize('path', sorted(CONFIGS.rglob('metafile.yml')), ids=lambda p: p.parent.name)
def test_costs_in_the_metafile_are_those_of_the_deployed_network(path, config, report):
    for model in yaml.safe_load(path.read_text())['Models']:
        metadata = model.get('Metadata', {})
        if 'Parameters' not in metadata:
            continue
        name = Path(model['Config']).relative_to('configs').with_suffix('').as_posix()
        cfg, deployed = config(name), report(name).deployed
        assert metadata['Parameters'] == deployed.parameters
        assert metadata['FLOPs'] == pytest.approx(deployed.macs, rel=1e-3)
        assert metadata['Epochs'] == cfg.train_cfg.max_epochs
        assert metadata['Batch Size'] == cfg.train_dataloader.batch_size
