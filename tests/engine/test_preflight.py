import copy
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmpretrain.structures import DataSample
from torch import nn

from mmkdfuse.engine.preflight import ConfigError, check_file, preflight, read_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _registered():
    """Types of this file, gone again after each test."""
    MODELS.register_module(module=Faulty)
    DATASETS.register_module(module=Ten)
    yield
    MODELS.module_dict.pop('Faulty')
    DATASETS.module_dict.pop('Ten')


class Ten(BaseDataset):
    """Ten samples of ten classes as mmpretrain's pipelines make them."""

    METAINFO = {'classes': tuple('abcdefghij')}

    def __init__(self, classes=10):
        self.asked = classes
        super().__init__(metainfo={'classes': tuple('abcdefghij')[:classes]}, serialize_data=False)

    def load_data_list(self):
        return [{'number': number} for number in range(10)]

    def prepare_data(self, index):
        sample = DataSample().set_gt_label(index % self.asked)
        return dict(inputs=torch.zeros(3, 8, 8, dtype=torch.uint8), data_samples=sample)


class Faulty(BaseModel):
    """A linear classifier with one fault."""

    def __init__(self, num_classes, fault=''):
        super().__init__(dict(type='mmpretrain.ClsDataPreprocessor'))
        if fault == 'build':
            raise ValueError("fault='build' is not a good idea.")
        self.fault = fault
        self.linear = nn.Linear(192, num_classes)
        self.unused = nn.Linear(2, 2) if fault == 'unused' else nn.Identity()

    def forward(self, inputs, data_samples=None, mode='tensor'):
        logits = self.linear(inputs.flatten(1))
        if mode == 'predict':
            return [
                DataSample(gt_label=s.gt_label, pred_score=p)
                for s, p in zip(data_samples, logits, strict=True)
            ]
        if mode == 'tensor':
            return logits
        if self.fault == 'forward':
            raise RuntimeError('shapes differ')
        term = logits.square().mean()
        names = {'name': 'consistency', '': 'loss_a'}
        terms = {
            'loss_main': term,
            names.get(self.fault, 'loss_a'): term,
            'accuracy': torch.ones(1),
        }
        if self.fault == 'nan':
            terms['loss_a'] = term * float('nan')
        return terms


def config(classes=10, **changes):
    loader = dict(
        batch_size=4,
        num_workers=2,
        persistent_workers=True,
        dataset=dict(type='Ten', classes=classes),
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='pseudo_collate'),
    )
    cfg = Config(
        dict(
            default_scope='mmkdfuse',
            model=dict(type='Faulty', num_classes=10),
            train_dataloader=loader,
            val_dataloader=copy.deepcopy(loader),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            val_cfg=dict(),
            val_evaluator=dict(type='Accuracy', topk=(1, 5)),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', save_best='accuracy/top1')),
        )
    )
    cfg.merge_from_dict(changes)
    return cfg


def mistakes_of(cfg, **kwargs):
    with pytest.raises(ConfigError) as info:
        preflight(cfg, **kwargs)
    assert isinstance(info.value, ValueError)
    assert str(info.value) == '\n'.join(info.value.mistakes)
    return info.value.mistakes


def test_report_of_a_correct_config():
    report = preflight(config())
    assert (report.model, report.parameters, report.trainable) == ('Faulty', 1930, 1930)
    assert (report.deployed.parameters, report.deployed.macs) == (1930, 1920)
    assert report.images == {'train': 10, 'val': 10}
    assert report.batch_size == 4
    assert set(report.losses) == {'loss_main', 'loss_a', 'accuracy'}
    assert report.metrics == ['accuracy/top1', 'accuracy/top5']
    assert 'deployed: 1,930 parameters, 0.0 M MACs at 3x8x8' in str(report)


@pytest.mark.parametrize(
    'changes, mentions',
    [
        ({'model.fault': 'nan'}, ['the term loss_a is nan']),
        ({'model.fault': 'name'}, ['the term consistency would be left out', 'loss_consistency']),
        (
            {'model.fault': 'unused'},
            ['2 of 4 trainable parameters', '(unused.weight, unused.bias)'],
        ),
        ({'model.fault': 'build'}, ["`model`: fault='build' is not a good idea."]),
        ({'model.fault': 'forward'}, ["`model.fault` = 'forward': shapes differ."]),
        (
            {'train_dataloader.dataset.classes': 7},
            ['`model.num_classes` = 10', 'train', '7 classes'],
        ),
        ({'val_dataloader.dataset.classes': 7}, ['`model.num_classes` = 10', 'val', '7 classes']),
        (
            {'default_hooks.checkpoint.save_best': 'acuracy/top1'},
            ['`default_hooks.checkpoint.save_best`', "nearest valid name: 'accuracy/top1'"],
        ),
        (
            {'custom_hooks': [dict(type='EarlyStoppingHook', monitor='main/top1')]},
            ['`custom_hooks[0].monitor`'],
        ),
        ({'load_from': 'no/such/file.pth'}, ["`load_from` = 'no/such/file.pth': no such file"]),
        ({'model.numclasses': 3}, ['`model.numclasses` = 3', "'num_classes'"]),
    ],
)
def test_one_mistake_is_one_sentence(changes, mentions):
    (mistake,) = mistakes_of(config(**changes))
    assert all(mention in mistake for mention in mentions), mistake


def test_mistakes_of_data_model_and_hooks_come_together():
    mistakes = mistakes_of(
        config(
            classes=6,
            image_size=8,
            **{
                'model.fault': 'nan',
                'default_hooks.checkpoint.save_best': 'top1',
                'load_from': 'x',
            },
        )
    )
    assert len(mistakes) == 4
    for word in ('load_from', 'train dataset', 'loss_a is nan', 'save_best'):
        assert sum(word in mistake for mistake in mistakes) == 1, word


def test_a_folder_without_data_speaks_for_itself(tmp_path):
    dataset = dict(type='ImageFolder', data_root=str(tmp_path / 'nothing'), data_prefix='train')
    cfg = config()
    cfg.train_dataloader.dataset = dataset
    (mistake,) = mistakes_of(cfg)
    assert mistake.startswith('`train_dataloader.dataset.data_root` = ') and 'nothing' in mistake


def kfmsd():
    cfg = read_config(str(ROOT / 'configs/kfmsd/resnet18_cifar100.py'))
    cfg.model.backbone = dict(arch='resnet18', base_channels=8, stem_channels=8)
    return cfg


def test_kfmsd_on_random_images():
    report = preflight(kfmsd(), data=False)
    assert report.images == {}
    assert report.parameters == report.trainable > report.deployed.parameters
    assert {'loss_ce_branch1', 'loss_ce_main', 'loss_mutual_kl', 'loss_feature'} <= set(
        report.losses
    )
    assert {'branch1/top1', 'main/top1', 'ensemble/top1'} <= set(report.metrics)
    assert 'stage shapes' in report.plan[0] and len(report.plan) == 4


def test_full_resnet18_costs_what_the_paper_prints():
    cfg = read_config(str(ROOT / 'configs/kfmsd/resnet18_cifar100.py'))
    deployed = preflight(cfg, data=False).deployed
    assert (deployed.parameters, round(deployed.macs / 1e6, 1)) == (11_220_132, 555.5)


def test_digits_are_read_as_in_training():
    cfg = kfmsd()
    digits = Config.fromfile(ROOT / 'configs/_base_/datasets/digits.py')
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader', 'data_preprocessor'):
        cfg[key] = digits[key]
    cfg.model.num_classes = 10
    cfg.model.image_size = 32
    report = preflight(cfg)
    assert sum(report.images[split] for split in ('train', 'val')) == 1797
    assert report.images['test'] == report.images['val']
    cfg.model.num_classes = 100
    assert len(mistakes_of(cfg)) == 2


def states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def test_random_state_and_config_stay_as_they_are():
    cfg = config()
    before, text = states(), cfg.pretty_text
    preflight(cfg)
    mistakes_of(config(**{'model.fault': 'nan'}))
    assert states() == before
    assert cfg.pretty_text == text


def test_a_file_is_checked_with_its_options(tmp_path, capsys):
    path = tmp_path / 'faulty.py'
    path.write_text(config().pretty_text)
    assert check_file(str(path)) == 0
    assert capsys.readouterr().out.startswith('Preflight passed')
    assert check_file(str(path), {'model.fault': 'nan', 'load_from': 'x'}) == 1
    assert capsys.readouterr().out.startswith(f'2 mistakes in {path}:')


@pytest.mark.parametrize('text', ["_base_ = './missing.py'", 'model = dict(', 'x = 1 / 0'])
def test_an_unreadable_file_is_one_sentence(tmp_path, text, capsys):
    path = tmp_path / 'broken.py'
    path.write_text(text)
    assert check_file(str(path)) == 1
    out = capsys.readouterr().out
    assert '1 mistake in' in out and 'cannot be read as a config' in out
    assert check_file(str(tmp_path / 'absent.py')) == 1


def test_the_tool_names_mistakes_without_a_traceback():
    tool = [sys.executable, str(ROOT / 'tools/check_config.py')]
    options = ['--no-data', '--cfg-options', 'model.gama=1', 'model.neck.fuse_mode=fused']
    run = subprocess.run(
        [*tool, str(ROOT / 'configs/kfmsd/resnet18_cifar100.py'), *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    assert run.returncode == 1
    assert 'Traceback' not in run.stdout + run.stderr
    assert '`model.gama` = 1' in run.stdout and '`model.neck.fuse_mode` = ' in run.stdout
