"""Ways to name a teacher, freezing, strict loading, and teachers that cannot be."""

import copy
import pickle
import re
from dataclasses import replace

import pytest
import torch
from mmpretrain.models import ImageClassifier
from reading import everything
from torch import nn

from mmkdfuse.models import Classifier
from mmkdfuse.models.teachers import Teacher, attach, resolve_network
from mmkdfuse.models.teachers import teacher as teacher_module
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import TapKeys

K = 5
ARCH = dict(arch='resnet8x4', base_channels=4, stem_channels=4)
FINAL_CONV = dict(arch='shufflenet_v2', base_channels=8)
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def write(path, model, **changes):
    torch.save(dict(meta={}, state_dict={**model.state_dict(), **changes}), path)
    return str(path)


@pytest.mark.parametrize('arch', [ARCH, FINAL_CONV])
def test_a_checkpoint_of_the_network_alone_gives_its_logits(tmp_path, arch):
    trained = Classifier(arch, K, 32).eval()
    teacher = Teacher(dict(**arch, checkpoint=write(tmp_path / 't.pth', trained)), K, 32)
    teacher.load()
    output = teacher(IMAGES)
    torch.testing.assert_close(output.logits, trained(IMAGES))
    assert [tuple(stage.shape[1:]) for stage in output.stages] == trained.stage_shapes
    assert teacher.stage_shapes == trained.stage_shapes


def test_it_stays_frozen_in_eval_mode_and_out_of_the_model():
    teacher = Teacher(ARCH, K, 32)
    holder = nn.Linear(2, 2)
    attach(holder, [teacher])
    holder.train()
    teacher.train()
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not teacher(IMAGES.requires_grad_()).logits.requires_grad
    assert set(holder.state_dict()) == {'weight', 'bias'}
    assert copy.deepcopy(holder).teachers[0] is teacher


def test_a_config_path_names_a_network_with_its_class_count(tmp_path, build):
    path = tmp_path / 'net.py'
    path.write_text(
        f'model = dict(type="Classifier", backbone={ARCH}, num_classes={K}, image_size=32)'
    )
    assert Teacher(str(path), K, 32).stage_shapes == Teacher(ARCH, K, 32).stage_shapes
    spec = resolve_network(dict(arch=str(path), checkpoint='weights.pth'))
    assert (spec.checkpoint, spec.num_classes, spec.is_plain) == ('weights.pth', K, True)
    assert spec.backbone == ARCH
    for method in ('KD', 'DKD', 'MFAKD', 'SimKD'):
        with pytest.raises(ValueError, match=rf'has {K} classes, expected .* num_classes=7'):
            build(method, teacher=str(path), num_classes=7)
    with pytest.raises(ValueError, match='takes `checkpoint` beside it, not base_channels'):
        resolve_network(dict(arch=str(path), base_channels=4))
    with pytest.raises(FileNotFoundError, match="arch='no.py' is no config file"):
        resolve_network('no.py')


def test_a_fast_copy_answers_once_the_weights_are_loaded(tmp_path):
    paths = [write(tmp_path / f'{name}.pth', Classifier(ARCH, K, 32)) for name in 'ab']
    teacher = Teacher(dict(**ARCH, checkpoint=paths[0]), K, 32)
    assert teacher.backbone is teacher.network.backbone
    names, count = list(teacher.state_dict()), len(list(teacher.parameters()))
    for path in paths:  # loaded again, it is made again
        teacher.checkpoint = path
        teacher.load()
        saved = torch.load(path, weights_only=True)['state_dict']
        assert all(torch.equal(saved[name], v) for name, v in teacher.network.state_dict().items())
        assert not any(isinstance(module, nn.BatchNorm2d) for module in teacher.backbone.modules())
        torch.testing.assert_close(teacher(IMAGES).logits, teacher.network(IMAGES))
    assert list(teacher.state_dict()) == names and len(list(teacher.parameters())) == count


def test_the_fast_copy_moves_and_is_pickled_with_the_teacher():
    teacher = Teacher(ARCH, K, 32)
    teacher.speed_up()
    expected = teacher(IMAGES).logits
    other = pickle.loads(pickle.dumps(teacher))
    assert other.backbone is not other.network.backbone
    assert torch.equal(other(IMAGES).logits, expected)
    assert {p.dtype for p in other.double().backbone.parameters()} == {torch.float64}
    torch.testing.assert_close(other(IMAGES.double()).logits, expected.double())
    assert {p.device.type for p in other.to('meta').backbone.parameters()} == {'meta'}


def test_without_a_fast_copy_the_network_itself_answers(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(teacher_module, 'print_log', lambda line, **_: lines.append(line))
    monkeypatch.setattr(teacher_module, 'fast_copy', refuse)
    teacher = Teacher(
        dict(**ARCH, checkpoint=write(tmp_path / 't.pth', Classifier(ARCH, K, 32))), K, 32
    )
    teacher.load()
    assert lines == ['teacher resnet8x4 runs as it was trained, without its fast form: no such']
    assert teacher.backbone is teacher.network.backbone
    assert torch.equal(teacher(IMAGES).logits, teacher.network(IMAGES))


def refuse(*_):
    raise ValueError('no such')


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_it_gives_the_maps_asked_for_in_the_layout_of_the_images(layout):
    teacher = Teacher(ARCH, K, 32)
    teacher.speed_up()
    images = IMAGES.to(memory_format=layout)
    whole = teacher(images)
    assert all(stage.is_contiguous(memory_format=layout) for stage in whole.stages)
    last = teacher(images, TapKeys(maps=('stage3',)))
    assert (list(last.maps), last.head_features, last.head_logits) == (['stage3'], {}, {})
    assert torch.equal(last.stage(-1), whole.stage(-1))
    logits = teacher(images, TapKeys(logits=('main',)))
    assert (logits.maps, logits.head_features) == ({}, {})
    assert torch.equal(logits.logits, whole.logits)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('fast', [False, True])
def test_told_what_is_read_it_gives_that_in_the_layout_of_the_images(layout, fast):
    teacher = Teacher(ARCH, K, 32)
    images = IMAGES.to(memory_format=layout)
    expected = teacher(images)
    teacher.listen(TapKeys(maps=('stage1', 'stage2')))
    if fast:
        teacher.speed_up()
    found = teacher(images)
    assert (list(found.maps), found.head_features, found.head_logits) == (
        ['stage1', 'stage2'],
        {},
        {},
    )
    for number in (1, 2):
        assert found.stage(number).is_contiguous(memory_format=layout)
        torch.testing.assert_close(
            found.stage(number), expected.stage(number), rtol=1e-4, atol=1e-5
        )
    # Who verifies it reads logits whatever the losses read.
    logits = teacher(images, TapKeys(logits=('main',))).logits
    torch.testing.assert_close(logits, expected.logits, rtol=1e-4, atol=1e-5)


def image_classifier(**changes):
    backbone = dict(type='mmpretrain.ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4)
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone,
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=K, in_channels=32),
        **changes,
    )


def test_any_classifier_of_mmpretrain_teaches(tmp_path):
    trained = MODELS.build(image_classifier()).eval()
    path = write(tmp_path / 't.pth', trained)
    teacher = Teacher(image_classifier(checkpoint=path), K, 32)
    teacher.load()
    torch.testing.assert_close(teacher(IMAGES).logits, trained(IMAGES))


def test_a_self_distilled_network_teaches_by_its_main_head(tmp_path, tiny_backbone):
    cfg = dict(type='KFMSD', backbone=tiny_backbone, num_classes=K, image_size=32)
    trained = MODELS.build(cfg).eval()
    teacher = Teacher(dict(**cfg, checkpoint=write(tmp_path / 't.pth', trained)), K, 32)
    teacher.load()
    neck, head = teacher.network.neck, teacher.network.head
    branches = {*neck.modules(), *head.branches.modules()} - {*neck.pooling.modules()}
    calls = []
    hooks = [m.register_forward_hook(lambda module, *_: calls.append(module)) for m in branches]
    teacher.listen(TapKeys(logits=('main',)))
    teacher.speed_up()
    torch.testing.assert_close(teacher(IMAGES).logits, trained(IMAGES)[-1])
    assert hooks and calls == []
    plain = sum(p.numel() for p in trained.deployed().parameters())
    assert sum(p.numel() for p in teacher.deployed().parameters()) == plain


def test_a_self_distilled_network_teaches_by_every_head_that_is_read(tmp_path, tiny_backbone):
    cfg = dict(type='KFMSD', backbone=tiny_backbone, num_classes=K, image_size=32)
    trained = MODELS.build(cfg).eval()
    teacher = Teacher(dict(**cfg, checkpoint=write(tmp_path / 't.pth', trained)), K, 32)
    teacher.load()
    assert teacher.head_names == ('branch1', 'branch2', 'branch3', 'main')
    found = teacher(IMAGES, everything(teacher))
    for logits, expected in zip(found.head_logits.values(), trained(IMAGES), strict=True):
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    two = teacher(IMAGES, TapKeys(logits=('branch2', 'main')))
    assert list(two.head_logits) == ['branch2', 'main']
    assert torch.equal(two.logits_of('branch2'), found.logits_of('branch2'))


@MODELS.register_module()
class ScaledClassifier(ImageClassifier):
    """Classifies three times its last map."""

    def extract_feat(self, inputs, stage='neck'):
        return self.neck(tuple(3 * each for each in self.backbone(inputs)))


class SummingClassifier(Classifier):
    """Classifies its last map and adds what it sees of the first."""

    def read(self, maps, taps):
        output = super().read(maps, taps)
        seen = maps[0].mean(dim=(1, 2, 3))[:, None]
        logits = {head: each + seen for head, each in output.head_logits.items()}
        return replace(output, head_logits=logits)


def test_other_logits_than_those_of_the_last_map_are_refused_where_the_classifier_is_reused(
    build, monkeypatch
):
    monkeypatch.setitem(MODELS.module_dict, 'SummingClassifier', SummingClassifier)
    cfg = dict(type='SummingClassifier', backbone=ARCH, num_classes=K, image_size=32)
    images = torch.randn(2, 3, 32, 32)
    model = build('KD', teacher=cfg)
    teacher = model.teachers[0]
    assert torch.equal(teacher(images).logits, teacher.network(images))
    for method in ('MFAKD', 'SimKD'):
        with pytest.raises(ValueError, match='does not give its logits from its last map alone'):
            build(method, teacher=cfg)


def test_a_map_that_is_changed_before_it_is_classified_leaves_its_logits_alone(build):
    cfg = dict(image_classifier(), type='ScaledClassifier')
    teacher = build('KD', teacher=cfg).teachers[0]
    assert torch.equal(teacher(IMAGES).logits, teacher.network(IMAGES))
    for method in ('MFAKD', 'SimKD', 'FitNet'):
        with pytest.raises(ValueError, match='does not give its logits from its last map alone'):
            build(method, teacher=cfg)


CLASS_TOKEN = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        img_size=32,
        patch_size=8,
    ),
    head=dict(type='mmpretrain.VisionTransformerClsHead', num_classes=K, in_channels=16),
)
POOLED = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmpretrain.ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[4, 8, 8, 8])
    ),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=K, in_channels=8),
)


@pytest.mark.parametrize('network', [CLASS_TOKEN, POOLED], ids=['class token', 'pooled'])
def test_what_gives_logits_alone_teaches_by_them(network, build, tmp_path):
    trained = MODELS.build(network).eval()
    path = write(tmp_path / 'teacher.pth', trained)
    for method, term in (('KD', 'loss_kd'), ('DKD', 'loss_dkd')):
        model = build(method, teacher=dict(network, checkpoint=path))
        model.init_weights()
        torch.testing.assert_close(model.teachers[0](IMAGES).logits, trained(IMAGES))
        terms = model(IMAGES, torch.tensor([0, 1]), mode='loss')
        assert terms[term] > 0
        assert model.describe()[-1].endswith(f'logits alone, from {path}')
    with pytest.raises(ValueError, match='HintLoss: teacher=.* gives logits alone, and this loss'):
        build('FitNet', teacher=network)
    with pytest.raises(ValueError, match='teacher=.*expected a map'):
        build('MFAKD', teacher=network)


def test_what_gives_no_logits_is_no_teacher(build):
    with pytest.raises(ValueError, match=r'gives .*, expected logits \(N, K\)'):
        build('KD', teacher={**CLASS_TOKEN, 'head': None})


def test_unset_and_missing_files_are_named_with_the_commands(tmp_path):
    with pytest.raises(FileNotFoundError, match="teacher='resnet8x4' has no checkpoint: train one"):
        Teacher(ARCH, K, 32).load()
    path = tmp_path / 'teacher' / 'resnet8x4_cifar100' / 'epoch_240.pth'
    teacher = Teacher(dict(**ARCH, checkpoint=str(path)), K, 32)
    sentence = re.escape(f"teacher.checkpoint='{path}' does not exist: train one with ")
    with pytest.raises(FileNotFoundError, match=sentence) as error:
        teacher.load()
    assert 'tools/train.py configs/teacher/resnet8x4_cifar100.py`' in str(error.value)
    assert 'tools/convert_checkpoint.py' in str(error.value)
    path.parent.mkdir(parents=True)
    write(path, Classifier(ARCH, K, 32))
    assert teacher.missing() is None


def test_files_that_do_not_fit_are_refused_in_one_sentence(tmp_path):
    good = Classifier(ARCH, K, 32)
    state = good.state_dict()
    key = 'head.fc.bias'

    def load(state_dict):
        path = tmp_path / 't.pth'
        torch.save(state_dict, path)
        Teacher(dict(**ARCH, checkpoint=str(path)), K, 32).load()

    lacking = {name: value for name, value in state.items() if name != key}
    with pytest.raises(RuntimeError, match=f'missing: {key}'):
        load(lacking)
    with pytest.raises(RuntimeError, match='unexpected: projector.weight'):
        load({**state, 'projector.weight': torch.zeros(1)})
    with pytest.raises(RuntimeError, match=rf'misshapen: {key} \(7,\) instead of \({K},\)'):
        load({**state, key: torch.zeros(7)})
    with pytest.raises(RuntimeError, match=r'^teacher checkpoint .*t\.pth.* must hold tensors by'):
        load({'weights': state, 'epoch': 240})
