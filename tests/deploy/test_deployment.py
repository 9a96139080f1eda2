"""Every head of every method, rebuilt from the files that were written."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain import ImageClassificationInferencer, get_model
from mmpretrain.models import ImageClassifier
from PIL import Image

import mmkdfuse
from mmkdfuse.analysis.cost import count_cost
from mmkdfuse.datasets import ImageFolder
from mmkdfuse.deploy import deploy
from mmkdfuse.deploy import deployment as implementation
from mmkdfuse.engine.launch import build_model

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'deploy.py'
BASELINE = dict(type='Classifier')
VGG = dict(arch='vgg11', base_channels=4)
STACKED = dict(type='StackedLinearClsHead', mid_channels=[9])
GEM = dict(type='mmpretrain.GeneralizedMeanPooling', p=2.0)
SHUFFLE = dict(type='mmpretrain.ShuffleNetV2', widen_factor=0.5, out_indices=(0, 1, 2))
VGG8 = dict(arch='vgg8', base_channels=4)
MOBILE = dict(arch='mobilenet_v2', base_channels=8)
WIDE = dict(arch='wrn16_2', base_channels=8)
SWIN = dict(
    type='mmpretrain.SwinTransformer',
    arch=dict(embed_dims=4, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
    img_size=32,
    pad_small_map=True,
    out_indices=(0, 1, 2, 3),
)
PLAIN = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='StackedLinearClsHead', num_classes=7, in_channels=32, mid_channels=[9]),
)
NARROW = dict(arch='resnet18', base_channels=4, stem_channels=4)
BRANCHED = dict(
    type='Distiller',
    student=dict(type='KFMSD', backbone=NARROW, head=STACKED),
    teacher=VGG8,
    losses=[dict(type='KDLoss', heads='all')],
)
PEERS = dict(
    type='Distiller',
    student=dict(type='DML', backbone=NARROW, peers=[VGG8]),
    teacher=dict(type='FKD', backbone=NARROW),
    kd_weight=1.0,
)
TRANSPOSED = dict(connector=dict(branches=('sandglass', 'pointwise'), upsample='transposed'))
CASES = [
    (dict(type='KFMSD', predict_from='ensemble', neck=dict(fuse='none')), 'branch2'),
    (dict(type='KFMSD', head=STACKED), 'main'),
    (dict(type='KFMSD', head=STACKED), 'ensemble'),
    (dict(type='KFMSD', neck=dict(type='KFMNeck', branches=[1, 3], module='sepconv')), 'branch2'),
    (dict(type='KFMSD', backbone=VGG), 'main'),
    (dict(type='KFMSD', backbone=VGG, head=STACKED), 'branch1'),
    (dict(type='KFMSD', backbone=dict(arch='squeezenet', base_channels=2)), 'main'),
    (dict(type='Classifier', backbone=SHUFFLE), 'main'),
    (dict(type='KFMSD', backbone=SWIN), 'main'),
    (dict(type='KFMSD', backbone=SWIN), 'branch1'),
    (dict(type='BYOT', neck=dict(form='conference')), 'branch2'),
    (dict(type='FKD'), 'branch4'),
    (dict(type='Classifier', neck=GEM), 'main'),
    (dict(type='KFMSD', neck=dict(pooling=GEM)), 'main'),
    (dict(type='KFMSD', neck=dict(pooling=GEM)), 'branch1'),
    (dict(type='FKD', neck=dict(pooling=GEM)), 'ensemble'),
    (dict(type='DML', peers=[dict(arch='squeezenet', base_channels=2)]), 'branch1'),
    (dict(type='DML', peers=2), 'main'),
    (dict(type='Classifier', backbone=dict(arch='shufflenet_v2', base_channels=8)), 'main'),
    (BASELINE, 'main'),
    (dict(type='KD', student=SHUFFLE, teacher=VGG8), 'main'),
    (dict(type='FitNet', student=MOBILE, teacher=VGG8), 'main'),
    (dict(type='SimKD', student=VGG8, teacher=WIDE), 'main'),
    *((BRANCHED, head) for head in ('main', 'branch1', 'branch2', 'branch3', 'ensemble')),
    *((PEERS, head) for head in ('main', 'branch1')),
    (dict(type='MFAKD', student=VGG8, teacher=WIDE), 'main'),
    (dict(type='MFAKD', student=MOBILE, teacher=MOBILE, **TRANSPOSED), 'main'),
    (dict(type='MFAKD', student=VGG8, teacher=PLAIN), 'main'),
    (
        dict(
            type='MFAKD',
            student=VGG8,
            teacher=dict(type='KFMSD', backbone=VGG, num_classes=7, image_size=32, head=STACKED),
        ),
        'main',
    ),
    (
        dict(
            type='MFAKD',
            student=NARROW,
            teacher=[WIDE, MOBILE, PLAIN],
        ),
        'main',
    ),
]


def name_of(value):
    return value if isinstance(value, str) else re.sub(r'\W+', '-', str(value))[:60]


def expected_logits(model, head, images):
    with torch.no_grad():
        output = model(images)
    logits = output if isinstance(output, tuple) else (output,)
    if head == 'ensemble':
        return sum(logits) / len(logits)
    return logits[-1] if head == 'main' else logits[int(head.removeprefix('branch')) - 1]


def assert_same_logits(model, network, head, images):
    expected = expected_logits(model, head, images)
    with torch.no_grad():
        found = network(images)
    difference = (found - expected).abs().max() / expected.abs().max()
    assert found.shape == expected.shape and difference <= 1e-5


@pytest.mark.parametrize(('changes', 'head'), CASES, ids=name_of)
def test_the_files_give_the_logits_of_the_trained_head(make, images, changes, head):
    model, cfg, checkpoint = make(**changes)
    deployed = deploy(cfg, checkpoint, head, seconds=0)
    network = get_model(str(deployed.config), pretrained=str(deployed.checkpoint))
    assert type(network) is ImageClassifier
    assert_same_logits(model, network, head, images)
    assert_same_logits(model, deployed.model, head, images)
    saved = torch.load(deployed.checkpoint, weights_only=True)
    network.load_state_dict(saved['state_dict'], strict=True)
    assert saved['meta']['head'] == head
    assert deployed.config.parent == checkpoint.parent / 'deployed'


@pytest.mark.parametrize(('changes', 'head'), CASES, ids=name_of)
def test_folded_files_give_the_same_logits(make, images, changes, head):
    model, cfg, checkpoint = make(**changes)
    deployed = deploy(cfg, checkpoint, head, fold=True, seconds=0)
    assert deployed.config.name == f'model_{head}_folded.py'
    network = get_model(str(deployed.config), pretrained=str(deployed.checkpoint))
    expected = expected_logits(model, head, images)
    with torch.no_grad():
        found = network(images)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    costs = list(deployed.costs.values())
    assert list(deployed.costs)[-2:] == ['before folding', f'deployed {head}']
    assert costs[-1].macs <= costs[-2].macs
    saved = torch.load(deployed.checkpoint, weights_only=True)['state_dict']
    network.load_state_dict(saved, strict=True)
    if changes['type'] in ('MFAKD', 'SimKD'):
        assert not any('running_mean' in name for name in saved if 'connector' in name)


def test_folding_saves_work_where_the_student_map_is_smaller(make):
    _, cfg, checkpoint = make(type='MFAKD', student=VGG8, teacher=WIDE)
    costs = deploy(cfg, checkpoint, fold=True, seconds=0).costs
    assert costs['deployed main'].macs < costs['before folding'].macs


@pytest.mark.parametrize('head', ['main', 'branch1', 'branch2', 'ensemble'])
def test_a_trained_run(tmp_path, trained, images, head):
    deployed = deploy(
        trained.config,
        trained.checkpoint,
        head,
        out=tmp_path,
        seconds=0,
        cfg_options=trained.options,
    )
    model = mmkdfuse.load(trained.config, trained.checkpoint, cfg_options=trained.options)
    network = get_model(str(deployed.config), pretrained=str(deployed.checkpoint))
    assert_same_logits(model, network, head, images)
    meta = torch.load(deployed.checkpoint, weights_only=True)['meta']
    assert len(meta['dataset_meta']['classes']) == 10
    names = [f'kfmsd_digits_{head}.pth', f'kfmsd_digits_{head}.py']
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_baseline_and_a_main_network_are_the_same_kind_of_config(make):
    configs = []
    for changes in (dict(type='KFMSD'), BASELINE):
        _, cfg, checkpoint = make(**changes)
        written = Config.fromfile(deploy(cfg, checkpoint, seconds=0).config)
        configs.append(written.to_dict())
    assert configs[0] == configs[1]


def test_without_this_package(make, images, tmp_path):
    model, cfg, checkpoint = make()
    main, branch = (deploy(cfg, checkpoint, head, seconds=0) for head in ('main', 'branch1'))
    torch.save(dict(images=images, logits=expected_logits(model, 'main', images)), tmp_path / 'io')
    code = f"""
import sys
sys.modules['mmkdfuse'] = None  # an import fails as if it were not installed
import torch
from mmpretrain import get_model
model = get_model({str(main.config)!r}, pretrained={str(main.checkpoint)!r})
io = torch.load({str(tmp_path / 'io')!r}, weights_only=True)
with torch.no_grad():
    difference = (model(io['images']) - io['logits']).abs().max() / io['logits'].abs().max()
assert difference <= 1e-5, difference
try:
    get_model({str(branch.config)!r}, pretrained={str(branch.checkpoint)!r})
except ImportError as error:
    assert 'mmkdfuse' in str(error), error
    print('done')
"""
    # Not from the repository, where the package could be imported by its path.
    run = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert run.returncode == 0 and run.stdout.endswith('done\n'), run.stderr


def test_an_image_file_is_classified_as_in_our_own_test(make, tmp_path):
    names = [f'class {number}' for number in range(7)]
    model, cfg, checkpoint = make(classes=names)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    pixels[..., 0] //= 4  # red and blue must not be exchanged
    for name in names:  # one folder per class, as our dataset wants it
        (tmp_path / 'images' / 'val' / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / 'images' / 'val' / name / 'image.png')
    cfg.test_dataloader = dict(
        batch_size=7,
        dataset=dict(type='ImageFolder', data_root=str(tmp_path / 'images'), data_prefix='val'),
        collate_fn=dict(type='mmkdfuse.identity_collate'),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    own = build_model(cfg)
    own.load_state_dict(model.state_dict())
    batch = ImageFolder(str(tmp_path / 'images'), 'val').__getitems__(range(7))
    with torch.no_grad():
        prediction = own.eval().test_step(batch)[3]
    for head, expected in (
        ('main', prediction.pred_score),
        ('branch1', prediction.branch_scores[0]),
    ):
        deployed = deploy(cfg, checkpoint, head, seconds=0, out=tmp_path)
        inferencer = ImageClassificationInferencer(
            str(deployed.config), pretrained=str(deployed.checkpoint), device='cpu'
        )
        (result,) = inferencer(str(tmp_path / 'images' / 'val' / names[3] / 'image.png'))
        np.testing.assert_allclose(result['pred_scores'], expected, rtol=1e-4, atol=1e-6)
        assert result['pred_class'] == names[int(expected.argmax())]
        # The returned model serves as well.
        (again,) = ImageClassificationInferencer(deployed.model)(pixels[..., ::-1])
        np.testing.assert_allclose(again['pred_scores'], expected, rtol=1e-4, atol=1e-6)
        assert again['pred_class'] == result['pred_class']


def test_costs_and_text(make):
    model, cfg, checkpoint = make()
    deployed = deploy(cfg, checkpoint, 'branch1', seconds=1e-3)
    assert list(deployed.costs) == ['trained model', 'main network', 'deployed branch1']
    assert deployed.costs['trained model'] == count_cost(model, (3, 32, 32))
    assert deployed.costs['main network'] == count_cost(model.deployed(), (3, 32, 32))
    small, whole = deployed.costs['deployed branch1'], deployed.costs['trained model']
    assert small.parameters < whole.parameters and small.macs < whole.macs
    assert list(deployed.latencies) == list(deployed.costs)
    text = str(deployed)
    share = f'{small.parameters / whole.parameters - 1:+.1%}'
    assert re.search(rf'beside trained model +{re.escape(share)} ', text)
    assert f'{small.parameters:,}' in text and 'batch size 1' in text and 'CPU thread(s)' in text
    assert str(deployed.config) in text and str(deployed.checkpoint) in text


def test_the_main_network_is_not_compared_with_itself(make):
    _, cfg, checkpoint = make()
    deployed = deploy(cfg, checkpoint, seconds=0)
    assert list(deployed.costs) == ['trained model', 'deployed main']
    assert not deployed.latencies and ' ms' not in str(deployed)


@pytest.mark.parametrize('upsample', ['nearest', 'transposed'])
def test_costs_of_a_student_with_the_teachers_classifier_add_up(make, upsample):
    model, cfg, checkpoint = make(
        type='MFAKD', student=MOBILE, teacher=WIDE, connector=dict(upsample=upsample)
    )
    deployed = deploy(cfg, checkpoint, seconds=0)
    costs = deployed.costs
    assert 'beside student alone' in str(deployed) and 'beside connector' not in str(deployed)
    assert list(costs) == ['teacher', 'student alone', 'connector', 'deployed main']
    teacher = model.teachers[0].network
    assert costs['teacher'] == count_cost(teacher, (3, 32, 32))
    alone = make(type='Classifier', backbone=MOBILE)[0]
    assert costs['student alone'] == count_cost(alone, (3, 32, 32))
    # The student's last convolution and classifier make room for the teacher's classifier.
    own = sum(p.numel() for part in (alone.neck, alone.head) for p in part.parameters())
    reused = sum(p.numel() for p in teacher.head.parameters())
    main = costs['deployed main']
    expected = costs['student alone'].parameters - own + costs['connector'].parameters + reused
    assert main.parameters == expected
    (channels, height, width), wide = alone.stage_shapes[-1], alone.neck.out_channels
    own = channels * wide * height * width + wide * alone.num_classes
    reused = teacher.head.in_channels * alone.num_classes
    assert main.macs == costs['student alone'].macs - own + costs['connector'].macs + reused


@pytest.mark.parametrize('method', ['KD', 'DKD', 'FitNet'])
def test_a_plain_student_is_compared_with_its_teacher(make, method):
    _, cfg, checkpoint = make(type=method, student=VGG8, teacher=[WIDE, MOBILE])
    deployed = deploy(cfg, checkpoint, seconds=1e-3)
    assert list(deployed.costs) == ['teacher wrn16_2', 'teacher mobilenet_v2', 'deployed main']
    assert list(deployed.latencies) == list(deployed.costs)


def test_a_branched_student_is_compared_with_its_teacher_and_itself(make):
    model, cfg, checkpoint = make(**BRANCHED)
    costs = deploy(cfg, checkpoint, 'branch1', seconds=0).costs
    assert list(costs) == ['teacher', 'trained model', 'main network', 'deployed branch1']
    assert costs['teacher'] == count_cost(model.teachers[0].deployed(), (3, 32, 32))
    assert costs['trained model'] == count_cost(model, (3, 32, 32))
    assert costs['main network'] == count_cost(model.deployed(), (3, 32, 32))
    assert costs['deployed branch1'].macs < costs['main network'].macs


@pytest.mark.parametrize(
    ('part', 'matters'),
    [('neck.connector', True), ('head', True), ('backbone', True), ('teacher', False)],
)
def test_what_ships_is_what_is_scored(make, images, part, matters):
    """The trained path, not the teacher's backbone."""
    model, cfg, checkpoint = make(type='MFAKD', student=VGG8, teacher=WIDE)
    changed = model.teachers[0].network.backbone if part == 'teacher' else model.get_submodule(part)
    before = expected_logits(model, 'main', images)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.mul_(1.5).add_(0.1)
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    network = deploy(cfg, checkpoint, seconds=0).model
    assert_same_logits(model, network, 'main', images)
    with torch.no_grad():
        assert torch.allclose(network(images), before) is not matters


@pytest.mark.parametrize(
    ('changes', 'head', 'heads'),
    [
        (dict(), 'branch4', ('branch1', 'branch2', 'branch3', 'main', 'ensemble')),
        (dict(type='DML', peers=1), 'ensemble', ('branch1', 'main')),
        (BASELINE, 'branch1', ('main',)),
        (BRANCHED, 'branch4', ('branch1', 'branch2', 'branch3', 'main', 'ensemble')),
        (PEERS, 'ensemble', ('branch1', 'main')),
    ],
)
def test_an_unknown_head(make, changes, head, heads):
    _, cfg, checkpoint = make(**changes)
    name = changes.get('type', 'KFMSD')
    expected = f'head={head!r} must be one of {heads}, the heads of {name} '
    with pytest.raises(ValueError, match=re.escape(expected)):
        deploy(cfg, checkpoint, head)
    assert [path.name for path in checkpoint.parent.iterdir()] == ['weights.pth']


def test_a_checkpoint_of_another_network(make, tmp_path):
    _, cfg, checkpoint = make(num_classes=3)
    cfg.model.num_classes = 4
    with pytest.raises(RuntimeError, match=r"'.*weights.pth' does not fit KFMSD; misshapen: .*fc"):
        deploy(cfg, checkpoint)
    assert not (tmp_path / 'deployed').exists()


def test_a_missing_checkpoint(make, tmp_path):
    _, cfg, _ = make()
    with pytest.raises(FileNotFoundError, match=r"'.*nowhere.pth' does not exist"):
        deploy(cfg, tmp_path / 'nowhere.pth')


def test_a_missing_config(make):
    _, _, checkpoint = make()
    with pytest.raises(FileNotFoundError, match="config='kfmsd/resnet81' is neither"):
        deploy('kfmsd/resnet81', checkpoint)


def test_the_checkpoint_itself_is_not_replaced(make, tmp_path):
    _, cfg, checkpoint = make()
    same = checkpoint.rename(tmp_path / 'model_main.pth')
    with pytest.raises(ValueError, match=f"out='{tmp_path}' would replace"):
        deploy(cfg, same, out=tmp_path)


def test_a_model_without_heads(make):
    _, cfg, checkpoint = make()
    cfg.model = dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=32),
    )
    cfg.data_preprocessor = dict(type='ClsDataPreprocessor')
    with pytest.raises(ValueError, match='model=ImageClassifier has no heads to deploy'):
        deploy(cfg, checkpoint)


def test_negative_seconds(make):
    _, cfg, checkpoint = make()
    with pytest.raises(ValueError, match='seconds=-1 must not be negative'):
        deploy(cfg, checkpoint, seconds=-1)


def test_logits_that_differ_are_an_error_and_nothing_is_written(make, tmp_path, monkeypatch):
    _, cfg, checkpoint = make()
    logits_of = implementation._logits_of
    monkeypatch.setattr(implementation, '_logits_of', lambda *a: logits_of(*a) * (1 + 1e-3))
    with pytest.raises(RuntimeError, match="head='branch1': the logits of the deployed network"):
        deploy(cfg, checkpoint, 'branch1')
    assert not (tmp_path / 'deployed').exists()


def test_the_tool(make, tmp_path, monkeypatch, capsys):
    _, cfg, checkpoint = make()
    cfg.dump(tmp_path / 'model.py')
    arguments = [tmp_path / 'model.py', checkpoint, '--head', 'branch2', '--seconds', '0']
    monkeypatch.setattr(sys, 'argv', ['deploy.py', *map(str, arguments), '--out', str(tmp_path)])
    runpy.run_path(str(TOOL), run_name='__main__')
    text = capsys.readouterr().out
    assert 'deployed branch2' in text and str(tmp_path / 'model_branch2.pth') in text
    assert (tmp_path / 'model_branch2.py').is_file()
