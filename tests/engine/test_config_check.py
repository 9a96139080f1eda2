import copy
from pathlib import Path

import pytest
from mmengine.config import Config
from torch import nn

from mmkdfuse.engine.config_check import check_config
from mmkdfuse.engine.signature import keywords_of

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path for path in (ROOT / 'configs').glob('*/*.py') if path.parent.name != '_base_')


def config(**changes):
    """A correct config of mmpretrain and mmkdfuse types, with changes in dotted notation."""
    loader = dict(
        batch_size=8,
        dataset=dict(
            type='CustomDataset', data_root='data', pipeline=[dict(type='LoadImageFromFile')]
        ),
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
    )
    cfg = Config(
        dict(
            default_scope='mmkdfuse',
            model=dict(
                type='KFMSD',
                num_classes=10,
                image_size=32,
                backbone='resnet18',
                neck=dict(fuse='fused'),
            ),
            data_preprocessor=dict(mean=[0.0], std=[1.0]),
            train_dataloader=loader,
            val_dataloader=copy.deepcopy(loader),
            train_cfg=dict(by_epoch=True, max_epochs=2),
            val_cfg=dict(),
            val_evaluator=[dict(type='EnsembleAccuracy', topk=(1,))],
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.1),
                clip_grad=dict(max_norm=5, type='norm'),
                paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'head': dict(lr_mult=2)}),
            ),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, convert_to_iter_based=True, end=1),
                dict(type='MultiStepLR', milestones=[1]),
            ],
            default_hooks=dict(
                timer=dict(type='IterTimerHook'),
                checkpoint=dict(type='CheckpointHook', interval=1, priority='LOW'),
            ),
            custom_hooks=[dict(type='EarlyStoppingHook', monitor='main/top1')],
            visualizer=dict(
                type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')]
            ),
            randomness=dict(seed=0),
            env_cfg=dict(cudnn_benchmark=False),
            auto_scale_lr=dict(base_batch_size=8),
            load_from=None,
            num_classes=10,
            data_root='data',
            train_pipeline=[],
        )
    )
    cfg.merge_from_dict(changes)
    return cfg


def test_a_correct_config_has_no_mistakes():
    assert check_config(config()) == []


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_every_shipped_config_is_correct(path):
    assert check_config(Config.fromfile(path)) == []


MISTAKES = {
    # types
    'model.type': ('KFMDS', 'KFMSD'),
    'model.neck.type': ('KFMNek', 'KFMNeck'),
    'model.mutual_loss.type': ('MutualKL', 'MutualKLLoss'),
    'train_dataloader.dataset.type': ('CIFAR1O', 'CIFAR10'),
    'train_dataloader.dataset.pipeline.0.type': ('LoadImageFromFiles', 'LoadImageFromFile'),
    'train_dataloader.sampler.type': ('DefaultSamplr', 'DefaultSampler'),
    'train_dataloader.collate_fn.type': ('default_colate', 'default_collate'),
    'val_evaluator.0.type': ('EnsembelAccuracy', 'EnsembleAccuracy'),
    'optim_wrapper.type': ('AmpOptimWraper', 'AmpOptimWrapper'),
    'optim_wrapper.optimizer.type': ('SDG', 'SGD'),
    'optim_wrapper.constructor': (
        'DefaultOptimWrapperConstrutor',
        'DefaultOptimWrapperConstructor',
    ),
    'param_scheduler.1.type': ('MultistepLR', 'MultiStepLR'),
    'default_hooks.timer.type': ('IterTimeHook', 'IterTimerHook'),
    'custom_hooks.0.type': ('EarlyStopingHook', 'EarlyStoppingHook'),
    'val_cfg.type': ('ValLop', 'ValLoop'),
    'visualizer.type': ('UniversalVisualiser', 'UniversalVisualizer'),
    'visualizer.vis_backends.0.type': ('LocalBackend', 'LocalVisBackend'),
    'log_processor.type': ('LogProcesor', 'LogProcessor'),
    'model.init_cfg.type': ('Pretraind', 'Pretrained'),
    # keywords
    'model.gama': (0.7, 'gamma'),
    'model.neck.fuse_mode': ('fused', 'fuse'),
    'model.mutual_loss.temp_tau': (3.0, 'tau'),
    'data_preprocessor.means': ([0.0], 'mean'),
    'train_dataloader.batchsize': (8, 'batch_size'),
    'train_dataloader.dataset.dataroot': ('data', 'data_root'),
    'train_dataloader.dataset.pipeline.0.to_float33': (True, 'to_float32'),
    'train_dataloader.sampler.shufle': (True, 'shuffle'),
    'val_evaluator.0.topkk': (1, 'topk'),
    'optim_wrapper.optimizer.momentumm': (0.9, 'momentum'),
    'optim_wrapper.accumulative_count': (2, 'accumulative_counts'),
    'optim_wrapper.paramwise_cfg.norm_decay': (0.0, 'norm_decay_mult'),
    'param_scheduler.1.milestone': ([1], 'milestones'),
    'default_hooks.checkpoint.save_bets': ('main/top1', 'save_best'),
    'custom_hooks.0.patiance': (3, 'patience'),
    'train_cfg.max_epoch': (2, 'max_epochs'),
    'randomness.sed': (1, 'seed'),
    'env_cfg.cudnn_bench': (True, 'cudnn_benchmark'),
    'auto_scale_lr.enabled': (True, 'enable'),
    # names of networks
    'model.backbone': ('resnet180', 'resnet18'),
    # top level
    'train_dataloder': ({}, 'train_dataloader'),
    'optimizer_wrapper': ({}, 'optim_wrapper'),
    'param_schedulers': ([], 'param_scheduler'),
}


def sentence_path(key):
    """Dotted list positions as the sentences print them: a.0.b -> a[0].b."""
    parts = [f'[{part}]' if part.isdigit() else f'.{part}' for part in key.split('.')]
    return ''.join(parts)[1:]


@pytest.mark.parametrize('key', MISTAKES)
def test_one_mistake_is_one_sentence_with_the_nearest_name(key):
    wrong, near = MISTAKES[key]
    mistakes = check_config(config(**{key: wrong}))
    mistakes = [m for m in mistakes if not m.endswith('requires it.')]
    assert len(mistakes) == 1, mistakes
    assert mistakes[0].startswith(f'`{sentence_path(key)}` = {wrong!r}: ')
    assert mistakes[0].endswith(f"nearest valid name: '{near}'.")


def test_all_mistakes_come_together():
    mistakes = check_config(config(**{key: wrong for key, (wrong, _) in MISTAKES.items()}))
    named = [key for key in MISTAKES if any(f'`{sentence_path(key)}`' in m for m in mistakes)]
    # Below a type that does not exist, keywords cannot be judged.
    untold = {
        key
        for key in MISTAKES
        for parent in [key.rpartition('.')[0]]
        if f'{parent}.type' in MISTAKES and not key.endswith('type')
    }
    assert {'model.gama', 'optim_wrapper.optimizer.momentumm'} <= untold
    # Another constructor reads `paramwise_cfg` by its own rules.
    untold.add('optim_wrapper.paramwise_cfg.norm_decay')
    assert set(named) >= set(MISTAKES) - untold
    assert len(mistakes) > 25


@pytest.mark.parametrize(
    'missing, mention',
    [
        ('model', '`model` is missing'),
        ('model.type', '`type` is missing'),
        ('model.num_classes', '`model.num_classes` is missing: KFMSD requires it'),
        ('train_dataloader.dataset', '`train_dataloader.dataset` is missing'),
        ('train_dataloader.sampler.type', '`train_dataloader.sampler` = '),
        ('param_scheduler.1.milestones', '`param_scheduler[1].milestones` is missing'),
        ('custom_hooks.0.type', '`custom_hooks[0]` = '),
        ('train_cfg', '`train_cfg` is missing: train_dataloader and optim_wrapper need it'),
        ('val_evaluator', '`val_evaluator` is missing'),
        ('train_cfg.max_epochs', '`train_cfg.max_epochs` is missing'),
        ('train_cfg.by_epoch', 'needs either `by_epoch` or `type`'),
        ('auto_scale_lr.base_batch_size', '`auto_scale_lr.base_batch_size` is missing'),
    ],
)
def test_what_is_missing_is_named(missing, mention):
    cfg = config()
    *parents, last = [int(part) if part.isdigit() else part for part in missing.split('.')]
    node = cfg
    for part in parents:
        node = node[part]
    node.pop(last)
    mistakes = check_config(cfg)
    assert len(mistakes) == 1 and mention in mistakes[0], mistakes


@pytest.mark.parametrize('key', ['data', 'optimizer', 'evaluation', 'lr_config', 'total_epochs'])
def test_keys_of_old_openmmlab_are_named_with_their_new_place(key):
    (mistake,) = check_config(config(**{key: dict(interval=1)}))
    assert mistake.startswith(f'`{key}` = ') and 'belongs in ' in mistake


def test_variables_of_the_config_file_are_legal():
    optimizer = dict(type='SGD', lr=0.1)
    variables = dict(optimizer=optimizer, max_epochs=3, test_pipeline=[], image_size=32, backbone=1)
    assert check_config(config(resume_from=None, **variables)) == []


def test_networks_by_name_with_changes():
    named = config()
    named.model.backbone = dict(arch='resnet18', base_channels=16)
    assert check_config(named) == []
    named.model.backbone = dict(arch='resnet18', base_chanels=16)
    (mistake,) = check_config(named)
    assert mistake.startswith('`model.backbone.base_chanels` = 16: ResNet_CIFAR')
    named.model.backbone = dict(arch='resnet180')
    (mistake,) = check_config(named)
    assert mistake.startswith("`model.backbone.arch` = 'resnet180': ")
    named.model.backbone = dict(type='mmpretrain.RegNet', arch='regnetx_400mf', out_indices=(0, 1))
    assert check_config(named) == []
    named.model.backbone = dict(type='mmpretrain.RegNett')
    (mistake,) = check_config(named)
    assert "nearest valid name: 'RegNet'" in mistake


def distiller(**changes):
    """A correct distiller, with changes."""
    cfg = config()
    model = dict(
        type='MFAKD',
        student=dict(arch='resnet8x4', base_channels=8),
        teacher=[
            dict(arch='wrn40_2', checkpoint='a.pth'),
            'resnet32x4',
            dict(
                type='mmpretrain.ImageClassifier',
                backbone=dict(type='mmpretrain.ResNet_CIFAR', depth=18),
                checkpoint='b.pth',
            ),
            dict(type='Classifier', backbone='resnet8x4', checkpoint='c.pth'),
        ],
        num_classes=10,
        image_size=32,
        connector=dict(branches=('sandglass',)),
    )
    cfg.model = {**model, **changes}
    return cfg


def test_students_and_teachers_by_name_config_and_list():
    assert check_config(distiller()) == []
    assert check_config(distiller(teacher='wrn40_2', student='some/config.py')) == []


@pytest.mark.parametrize(
    ('changes', 'path', 'near'),
    [
        (dict(teachr=1), 'model.teachr', 'teacher'),
        (dict(backbone='resnet18'), 'model.backbone', ''),
        (dict(tau=4.0), 'model.tau', ''),
        (dict(student='resnt8x4'), 'model.student', 'resnet8x4'),
        (dict(student=dict(arch='vgg8', base_chanels=8)), 'model.student.base_chanels', ''),
        (dict(student=dict(arch='vgg8', checkpoint='a')), 'model.student.checkpoint', ''),
        (dict(teacher=dict(arch='wrn40_3')), 'model.teacher.arch', 'wrn40_2'),
        (dict(teacher=['wrn40_2', 'wrn40_3']), 'model.teacher[1]', 'wrn40_2'),
        (
            dict(teacher=[dict(arch='vgg8', chekpoint='a')]),
            'model.teacher[0].chekpoint',
            'checkpoint',
        ),
        (dict(connector=dict(upsampel=None)), 'model.connector.upsampel', 'upsample'),
        (dict(connector=dict(type='MBCAConector')), 'model.connector.type', 'MBCAConnector'),
    ],
)
def test_mistakes_around_students_and_teachers(changes, path, near):
    (mistake,) = check_config(distiller(**changes))
    assert mistake.startswith(f'`{path}` = ')
    assert not near or mistake.endswith(f"nearest valid name: '{near}'.")


def test_modules_that_cannot_be_imported_are_named_with_the_rest():
    imports = dict(imports=['json', 'no_such_module_a', 'no_such_module_b'])
    mistakes = check_config(config(**{'custom_imports': imports, 'model.gama': 1}))
    assert len(mistakes) == 3
    assert mistakes[0].startswith("`custom_imports.imports[1]` = 'no_such_module_a': ")
    allowed = dict(imports, allow_failed_imports=True)
    assert check_config(config(custom_imports=allowed)) == []


def test_type_and_by_epoch_exclude_each_other():
    (mistake,) = check_config(config(**{'train_cfg.type': 'EpochBasedTrainLoop'}))
    assert mistake.startswith('`train_cfg.by_epoch` = True: ')


def test_the_config_stays_as_it_is():
    cfg = config()
    before = cfg.to_dict()
    check_config(cfg)
    assert cfg.to_dict() == before


class Base(nn.Module):
    def __init__(self, width, depth=3, norm=None):
        super().__init__()


class Child(Base):
    def __init__(self, color, **kwargs):
        self.shape = kwargs.pop('shape', None)
        kwargs.setdefault('norm', 'BN')
        super().__init__(color, depth=5, **kwargs)


class Keeps(Base):
    def __init__(self, color, **kwargs):
        super().__init__(1)
        self.rest = kwargs


def test_keywords_follow_the_constructors_upwards():
    keywords = keywords_of(Child)
    # width comes from color and depth is fixed: neither is the user's
    assert set(keywords.defaults) == {'color', 'shape', 'norm'}
    assert keywords.required == ['color'] and not keywords.accepts_any
    assert keywords_of(Base).required == ['width']


def test_kept_keywords_may_be_anything():
    assert keywords_of(Keeps).accepts_any
    assert keywords_of(dict).accepts_any


def test_functions_and_plain_classes_have_keywords_too():
    assert keywords_of(lambda a, b=1: None).required == ['a']
    assert keywords_of(nn.Identity).accepts_any
    assert keywords_of(type('Empty', (), {})).defaults == {}
