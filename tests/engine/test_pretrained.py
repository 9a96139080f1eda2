"""Weights to start from arrive in the main network, completely, or are refused."""

import copy
import logging
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

import mmkdfuse
from mmkdfuse.checkpoint import load_file
from mmkdfuse.engine import launch
from mmkdfuse.engine.pretrained import load_start_weights
from mmkdfuse.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
BASELINE = CONFIGS / 'quickstart' / 'baseline_digits.py'
KFMSD = CONFIGS / 'quickstart' / 'kfmsd_digits.py'
CONVNEXT = dict(
    type='mmpretrain.ConvNeXt',
    arch=dict(depths=[1, 1, 1, 1], channels=[4, 6, 8, 10]),
    gap_before_final_norm=False,
)
VIT = dict(
    type='mmpretrain.VisionTransformer',
    arch=dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=8),
    patch_size=8,
    out_type='featmap',
    out_indices=(0, 1),
)


@pytest.fixture
def build(tiny_backbone):
    """Builds a small model; every one has other weights."""
    torch.manual_seed(0)

    def build_model(kind='KFMSD', num_classes=5, backbone=tiny_backbone, size=32, **changes):
        cfg = dict(type=kind, backbone=backbone, num_classes=num_classes, image_size=size)
        with DefaultScope.overwrite_default_scope('mmkdfuse'):
            model = MODELS.build({**cfg, **changes})
            model.init_weights()
        return model

    return build_model


def copied(state):
    return {key: value.clone() for key, value in state.items()}


def assert_main_is(model, state, but=()):
    main = model.deployed().state_dict()
    assert main.keys() == state.keys()
    for key, value in main.items():
        assert torch.equal(value, state[key]) is (key not in but), key


@pytest.mark.parametrize('kind', ['KFMSD', 'Classifier'])
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_a_plain_classifier_fills_the_main_network(build, kind, prefix):
    source, model = build('Classifier').state_dict(), build(kind)
    before = copied(model.state_dict())
    facts = load_start_weights(model, {prefix + k: v for k, v in source.items()}, 'a.pth')
    assert_main_is(model, source)
    rest = {k: v for k, v in model.state_dict().items() if k.startswith(('neck.', 'head.branches'))}
    assert all(torch.equal(value, before[key]) for key, value in rest.items())
    if kind == 'KFMSD':
        (fact,) = facts
        assert rest
        assert fact == (
            'a.pth holds the main network, left at their initialisation are: neck.branches, '
            'head.branches.'
        )
    else:
        assert facts == []


def test_a_file_of_the_same_model_fills_all_of_it(build):
    source, model = build(), build()
    assert load_start_weights(model, source.state_dict(), 'a.pth') == []
    for key, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)


@pytest.mark.parametrize(
    ('kind', 'file_kind', 'keys'),
    [
        ('Classifier', 'Classifier', ['head.fc.weight', 'head.fc.bias']),
        ('KFMSD', 'Classifier', ['head.fc.weight', 'head.fc.bias']),
        ('KFMSD', 'KFMSD', ['head.branches.0.weight', 'head.main.fc.bias']),
    ],
)
def test_classifiers_of_another_class_count_keep_their_initialisation(build, kind, file_kind, keys):
    source, model = build(file_kind, num_classes=8).state_dict(), build(kind)
    before = copied(model.state_dict())
    facts = load_start_weights(model, source, 'a.pth')
    (fact,) = [fact for fact in facts if 'classes' in fact]
    assert all(key in fact for key in keys)
    assert 'are for 8 classes' in fact and 'of the model for 5 are left' in fact
    for key, value in model.state_dict().items():
        if key.startswith('head.'):
            assert torch.equal(value, before[key])
        elif key in source:
            assert torch.equal(value, source[key])


def test_of_a_stacked_classifier_the_last_layer_alone_keeps_its_initialisation(build):
    head = dict(type='mmpretrain.StackedLinearClsHead', mid_channels=[6])
    source = build('Classifier', num_classes=8, head=head).state_dict()
    model = build(head=head)
    load_start_weights(model, source, 'a.pth')
    last = {'head.layers.1.fc.weight', 'head.layers.1.fc.bias'}
    main = model.deployed().state_dict()
    assert last < main.keys()
    for key in main.keys() - last:
        assert torch.equal(main[key], source[key]), key


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        (lambda s: s.pop('backbone.conv1.weight'), r'missing: backbone\.conv1\.weight'),
        (lambda s: s.pop('backbone.bn1.running_var'), r'missing: backbone\.bn1\.running_var'),
        (lambda s: s.pop('head.fc.bias'), r'missing: head\.fc\.bias'),
        (lambda s: s.update(extra=torch.ones(1)), 'unexpected: extra'),
        (
            lambda s: s.update({'backbone.bn1.weight': torch.ones(7)}),
            r'misshapen: backbone\.bn1\.weight \[7\] instead of \[4\]',
        ),
        (
            lambda s: s.update({'head.fc.weight': torch.ones(5, 9)}),
            r'misshapen: head\.fc\.weight \[5, 9\] instead of \[5, 32\]',
        ),
    ],
)
@pytest.mark.parametrize('kind', ['KFMSD', 'Classifier'])
def test_everything_else_that_does_not_fit_is_refused(build, kind, change, problem):
    state = copied(build('Classifier').state_dict())
    change(state)
    with pytest.raises(RuntimeError, match=f'^a.pth does not fit .*{kind}; {problem}'):
        load_start_weights(build(kind), state, 'a.pth')


def test_all_problems_come_in_one_sentence(build):
    state = copied(build('Classifier').state_dict())
    state['fc.weight'] = state.pop('backbone.bn1.weight')
    state['backbone.conv1.weight'] = torch.ones(4, 1, 3, 3)
    with pytest.raises(RuntimeError) as info:
        load_start_weights(build(), state, 'a.pth')
    message = str(info.value)
    assert 'missing: backbone.bn1.weight' in message and 'unexpected: fc.weight' in message
    assert 'misshapen: backbone.conv1.weight [4, 1, 3, 3] instead of [4, 3, 3, 3]' in message


def test_a_damaged_file_of_the_same_model_is_not_taken_for_the_main_network(build):
    state = build().state_dict()
    del state['neck.branches.0.blocks.0.layers.0.weight']
    with pytest.raises(RuntimeError, match=r'does not fit KFMSD; missing: neck\.branches\.0\.'):
        load_start_weights(build(), state, 'a.pth')


def test_norms_of_shallow_stages_may_lack(build):
    """A plain ConvNeXt has one norm, the last; every stage that feeds a branch has its own."""
    plain = build('Classifier', backbone=CONVNEXT).state_dict()
    model = build(backbone={**CONVNEXT, 'out_indices': (0, 1, 2, 3)})
    assert {'backbone.norm0.weight', 'backbone.norm2.bias'}.isdisjoint(plain)
    (fact,) = load_start_weights(model, plain, 'a.pth')
    assert 'backbone.norm0, backbone.norm1, backbone.norm2' in fact
    main = model.deployed().state_dict()
    assert all(torch.equal(main[key], value) for key, value in plain.items())
    del plain['backbone.norm3.weight']  # the main network does depend on this one
    with pytest.raises(RuntimeError, match=r'missing: backbone\.norm3\.weight:'):
        load_start_weights(model, plain, 'a.pth')


def test_position_embeddings_are_resized(build):
    source = build('Classifier', backbone={**VIT, 'img_size': 16}, size=16).state_dict()
    model = build(backbone={**VIT, 'img_size': 32})
    load_start_weights(model, source, 'a.pth')
    embeddings = model.backbone.pos_embed
    assert source['backbone.pos_embed'].shape == (1, 5, 8) and embeddings.shape == (1, 17, 8)
    torch.testing.assert_close(embeddings[:, 0], source['backbone.pos_embed'][:, 0])


def test_nothing_is_left_behind_on_the_model(build):
    model = build(backbone={**CONVNEXT, 'out_indices': (0, 1, 2, 3)}).train()
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    load_start_weights(model, build('Classifier', backbone=CONVNEXT).state_dict(), 'a.pth')
    assert all(module.training for module in model.modules())
    assert {name: p.requires_grad for name, p in model.named_parameters()} == flags
    assert all(p.grad is None for p in model.parameters())


# ---- init_cfg of type 'Pretrained'


def pretrained(path, **changes):
    return dict(type='Pretrained', checkpoint=str(path), prefix='backbone', **changes)


@pytest.fixture
def saved(tmp_path, build):
    """File of a plain classifier, and its weights."""
    state = copied(build('Classifier', num_classes=8).state_dict())
    torch.save(dict(state_dict=state), tmp_path / 'plain.pth')
    return tmp_path / 'plain.pth', state


def test_a_backbone_starts_from_its_part_of_a_file(build, saved, tiny_backbone):
    path, state = saved
    model = build(backbone={**tiny_backbone, 'init_cfg': pretrained(path)})
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, state[f'backbone.{key}']), key
    assert not torch.equal(build().backbone.conv1.weight, model.backbone.conv1.weight)


@pytest.mark.parametrize(
    ('changes', 'problem'),
    [
        (dict(prefix='body'), "no key starts with prefix='body'; the keys start with backbone, he"),
        (dict(prefix=None), r'does not fit ResNet_CIFAR; missing: conv1\.weight'),
        (dict(prefix='backbone.layer1'), r'does not fit ResNet_CIFAR; missing: conv1\.weight'),
    ],
)
def test_a_backbone_that_finds_little_in_the_file_is_an_error(
    build, saved, tiny_backbone, changes, problem
):
    init_cfg = {**pretrained(saved[0]), **changes}
    with pytest.raises(RuntimeError, match=problem):
        build(backbone={**tiny_backbone, 'init_cfg': init_cfg})


def test_a_backbone_of_another_width_is_an_error(build, saved):
    backbone = dict(
        arch='resnet18', base_channels=2, stem_channels=4, init_cfg=pretrained(saved[0])
    )
    with pytest.raises(RuntimeError, match=r'misshapen: layer1\.0\.conv1\.weight \[4, 4, 3, 3\]'):
        build(backbone=backbone)


def test_norms_that_the_file_lacks_do_not_stop_a_backbone(build, tmp_path):
    state = build('Classifier', backbone=CONVNEXT).state_dict()
    torch.save(state, tmp_path / 'convnext.pth')
    init_cfg = pretrained(tmp_path / 'convnext.pth')
    model = build(backbone={**CONVNEXT, 'out_indices': (0, 1, 2, 3), 'init_cfg': init_cfg})
    assert torch.equal(model.backbone.norm3.weight, state['backbone.norm3.weight'])
    stem = 'downsample_layers.0.0.weight'
    assert torch.equal(model.backbone.state_dict()[stem], state[f'backbone.{stem}'])


def test_the_argument_pretrained_does_what_load_from_does(build, saved):
    path, state = saved
    model = build(num_classes=8, pretrained=str(path))
    assert_main_is(model, state)
    with pytest.raises(RuntimeError, match='does not fit the main network of KFMSD; missing'):
        build(num_classes=8, pretrained=str(path), backbone=dict(arch='resnet34', base_channels=4))


# ---- runs


@pytest.fixture
def start(tiny_options, tmp_path, monkeypatch):
    """Trains one epoch of two steps and returns the weights before the first one."""
    seen = {}
    options = {**tiny_options, 'train_cfg.max_epochs': 1, 'train_dataloader.dataset.subset': 32}

    def build_runner(cfg):
        runner = original(cfg)
        step = runner.model.train_step

        def spy(data, optim_wrapper):
            if 'state' not in seen:
                seen['state'] = copied(runner.model.state_dict())
                for hook in runner.hooks:
                    if hasattr(hook, 'ema_model'):
                        run.averaged = copied(hook.ema_model.module.state_dict())
            return step(data, optim_wrapper)

        runner.model.train_step = spy
        runner.logger.addHandler(handler)
        return runner

    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    original = launch._build_runner
    monkeypatch.setattr(launch, '_build_runner', build_runner)

    def run(config, name, resume=False, **changes):
        seen.clear()
        lines.clear()
        work_dir = tmp_path / name
        mmkdfuse.train(
            config,
            work_dir=work_dir,
            resume=resume,
            preflight=False,
            validate=False,
            cfg_options={**options, 'log_level': 'INFO', **changes},
        )
        return seen.get('state'), work_dir / 'epoch_1.pth', list(lines)

    return run


def test_kfmsd_starts_from_a_trained_baseline(start):
    _, plain, _ = start(BASELINE, 'plain')
    wanted = load_file(plain)['state_dict']
    found, checkpoint, lines = start(KFMSD, 'ours', load_from=str(plain))
    for key, value in wanted.items():
        assert torch.equal(found[key.replace('head.fc', 'head.main.fc')], value), key
    assert sum('holds the main network' in line for line in lines) == 1
    assert not any('size mismatch' in line or 'missing keys' in line for line in lines)

    # Nothing of it happens to a resume, nor where the config names the file and there is nothing
    # to resume from yet.
    state, _, lines = start(KFMSD, 'new', resume=True, load_from=str(plain))
    assert torch.equal(state['head.main.fc.weight'], wanted['head.fc.weight'])
    state, _, lines = start(
        KFMSD, 'ours', resume=True, load_from=str(plain), **{'train_cfg.max_epochs': 2}
    )
    assert not any('holds the main network' in line for line in lines)
    trained = load_file(checkpoint)['state_dict']
    assert all(torch.equal(state[key], trained[key]) for key in trained)


def test_other_classes_are_reported_once_and_a_wrong_file_stops_the_run(start, tmp_path, build):
    plain = tmp_path / 'plain.pth'
    torch.save(build('Classifier', num_classes=7).state_dict(), plain)
    found, _, lines = start(KFMSD, 'ours', load_from=str(plain))
    wanted = torch.load(plain, weights_only=True)
    assert torch.equal(found['backbone.conv1.weight'], wanted['backbone.conv1.weight'])
    assert sum('are for 7 classes' in line for line in lines) == 1

    wrong = copy.copy(wanted)
    del wrong['backbone.conv1.weight']
    torch.save(wrong, plain)
    with pytest.raises(RuntimeError, match=r'load_from=.*plain\.pth.* missing: backbone\.conv1\.w'):
        start(KFMSD, 'wrong', load_from=str(plain))


def test_averaged_weights_start_from_the_file_too(start, tmp_path, build):
    plain = tmp_path / 'plain.pth'
    torch.save(dict(state_dict=build('Classifier', num_classes=10).state_dict()), plain)
    found, _, _ = start(KFMSD, 'ema', load_from=str(plain), custom_hooks=[dict(type='EMAHook')])
    wanted = load_file(plain)['state_dict']
    assert all(torch.equal(start.averaged[key], value) for key, value in found.items())
    assert torch.equal(found['backbone.conv1.weight'], wanted['backbone.conv1.weight'])


def test_a_run_starts_from_the_averaged_weights_of_a_file(start, tmp_path, build):
    state = build('Classifier', num_classes=10).state_dict()
    zeros = {key: torch.zeros_like(value) for key, value in state.items()}
    averaged = {f'module.{key}': value for key, value in state.items()}
    torch.save(dict(state_dict=zeros, state_dict_ema=averaged), tmp_path / 'a.pth')
    checkpoint = dict(_delete_=True, file=str(tmp_path / 'a.pth'), key='state_dict_ema')
    found, _, lines = start(KFMSD, 'average', load_from=checkpoint)
    assert torch.equal(found['backbone.conv1.weight'], state['backbone.conv1.weight'])
    assert any("load_from='" in line and 'a.pth' in line for line in lines)


def test_a_run_of_mmengines_own_hook_is_resumed(start, tmp_path):
    """Its files hold histories and numbers of numpy, which are read without their code."""
    hooks = {'default_hooks.checkpoint.type': 'mmengine.CheckpointHook'}
    _, checkpoint, _ = start(BASELINE, 'stock', **hooks)
    with pytest.raises(Exception, match='weights_only'):
        torch.load(checkpoint, weights_only=True)
    trained = load_file(checkpoint)['state_dict']
    state, _, lines = start(BASELINE, 'stock', resume=True, **{'train_cfg.max_epochs': 2})
    assert torch.equal(state['backbone.conv1.weight'], trained['backbone.conv1.weight'])
    assert (tmp_path / 'stock' / 'epoch_2.pth').exists()
