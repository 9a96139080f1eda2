"""Types of ours, of mmpretrain and of mmengine, from a config of either scope."""

import logging
import subprocess
import sys

import mmengine
import mmpretrain.registry
import pytest
from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import Runner

import mmkdfuse.registry
from mmkdfuse.models import KFM


def registries(module):
    return {name: value for name, value in vars(module).items() if isinstance(value, Registry)}


KINDS = {**registries(mmengine_registry), **registries(mmpretrain.registry)}


@pytest.mark.parametrize('kind', sorted(KINDS))
def test_every_kind_has_a_child(kind):
    """mmengine warns at each look-up of a kind whose registry is not found for the scope."""
    root = KINDS[kind]
    with DefaultScope.overwrite_default_scope('mmkdfuse'):
        with root.switch_scope_and_registry(None) as registry:
            assert registry.scope == 'mmkdfuse'
    assert any(child is registry for child in registries(mmkdfuse.registry).values())


@pytest.mark.parametrize(
    ('kind', 'name'),
    [
        ('MODELS', 'KFMSD'),  # ours
        ('MODELS', 'KFM'),
        ('MODELS', 'BatchPreprocessor'),
        ('METRICS', 'EnsembleAccuracy'),
        ('DATASETS', 'Digits'),
        ('HOOKS', 'InvalidLossHook'),
        ('LOOPS', 'ResumableEpochTrainLoop'),
        ('OPTIM_WRAPPERS', 'BF16OptimWrapper'),
        ('MODELS', 'ImageClassifier'),  # mmpretrain's
        ('MODELS', 'SwinTransformer'),
        ('DATASETS', 'ImageNet'),
        ('TRANSFORMS', 'RandAugment'),
        ('METRICS', 'Accuracy'),
        ('VISUALIZERS', 'UniversalVisualizer'),
        ('HOOKS', 'EMAHook'),  # mmengine's
        ('OPTIMIZERS', 'SGD'),
        ('PARAM_SCHEDULERS', 'MultiStepLR'),
        ('DATA_SAMPLERS', 'DefaultSampler'),
    ],
)
def test_types_without_prefix(kind, name):
    with DefaultScope.overwrite_default_scope('mmkdfuse'):
        with KINDS[kind].switch_scope_and_registry(None) as registry:
            assert registry.get(name).__name__ == name


def test_our_data_sets_come_before_those_of_mmpretrain():
    with DefaultScope.overwrite_default_scope('mmkdfuse'):
        with KINDS['DATASETS'].switch_scope_and_registry(None) as registry:
            assert registry.get('CIFAR10').__module__.startswith('mmkdfuse.')
            assert registry.get('mmpretrain.CIFAR10').__module__.startswith('mmpretrain.')


MMPRETRAIN_CONFIG = """
import warnings
warnings.simplefilter('error', UserWarning)
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
cfg = Config.fromfile({path!r})
init_default_scope(cfg.default_scope)
print(type(MODELS.build(cfg.model.neck)).__module__, type(MODELS.build(cfg.model)).__module__)
"""


def test_a_config_of_mmpretrain_may_name_our_types(tmp_path):
    """With custom_imports alone, without warnings, where nothing of ours was imported."""
    path = tmp_path / 'config.py'
    path.write_text(
        "default_scope = 'mmpretrain'\n"
        "custom_imports = dict(imports=['mmkdfuse.registry'], allow_failed_imports=False)\n"
        "model = dict(type='ImageClassifier', neck=dict(type='mmkdfuse.KFM', eps=0.5),\n"
        "             backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4))\n"
    )
    done = subprocess.run(
        [sys.executable, '-c', MMPRETRAIN_CONFIG.format(path=str(path))],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == [KFM.__module__, 'mmpretrain.models.classifiers.image']
    assert 'Failed to' not in done.stdout + done.stderr


def test_a_runner_of_our_scope_is_built_without_warnings(tmp_path, monkeypatch, tiny_backbone):
    messages = []
    print_log = mmengine.logging.print_log

    def record(message, logger=None, level=logging.INFO):
        if level >= logging.WARNING:
            messages.append(str(message))
        print_log(message, logger, level)

    monkeypatch.setattr(mmengine.logging, 'print_log', record)
    loader = dict(
        batch_size=4,
        dataset=dict(type='Digits', subset=8),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='identity_collate'),
    )
    cfg = Config(
        dict(
            default_scope='mmkdfuse',
            experiment_name='registry',
            work_dir=str(tmp_path),
            model=dict(type='KFMSD', backbone=tiny_backbone, num_classes=10, image_size=32),
            data_preprocessor=dict(type='BatchPreprocessor'),
            train_dataloader=loader,
            train_cfg=dict(type='ResumableEpochTrainLoop', max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            param_scheduler=dict(type='MultiStepLR', milestones=[1]),
            val_dataloader=loader,
            val_cfg=dict(),
            val_evaluator=dict(type='EnsembleAccuracy'),
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', interval=-1, save_last=False)
            ),
            visualizer=dict(
                type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')]
            ),
            log_level='ERROR',
        )
    )
    Runner.from_cfg(cfg).train()
    assert [message for message in messages if 'registry' in message or 'scope' in message] == []
