"""Normalisation, pipeline and imports of the written config."""

import pytest
from mmengine.config import Config

from mmkdfuse.deploy.config import deployed_config
from mmkdfuse.registry import MODELS

PLAIN = dict(type='mmpretrain.ImageClassifier', backbone=dict(type='mmpretrain.ResNet_CIFAR'))
OURS = dict(type='mmpretrain.ImageClassifier', backbone=dict(type='mmkdfuse.SqueezeNet'))
MEAN, STD = [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]


def trained(dataset=None, preprocessor=None, **others):
    cfg = dict(model=dict(type='KFMSD'), data_preprocessor=preprocessor or {}, **others)
    if dataset is not None:
        cfg['test_dataloader'] = dict(dataset=dataset)
    return Config(cfg)


def test_images_in_memory():
    preprocessor = dict(
        type='BatchPreprocessor', mean=MEAN, std=STD, crop_padding=4, flip_prob=0.5, pad_value=9
    )
    cfg = deployed_config(PLAIN, trained(dict(type='CIFAR10'), preprocessor), (16, 24))
    assert cfg.data_preprocessor == dict(
        type='ClsDataPreprocessor', mean=MEAN, std=STD, to_rgb=True
    )
    assert [step['type'] for step in cfg.test_pipeline] == [
        'LoadImageFromFile',
        'Resize',
        'PackInputs',
    ]
    assert cfg.test_pipeline[1]['scale'] == (24, 16)  # width first
    assert cfg.test_dataloader.dataset.pipeline == cfg.test_pipeline
    assert 'data_root' not in cfg.test_dataloader.dataset
    assert cfg.default_scope == 'mmpretrain' and 'custom_imports' not in cfg


def test_a_folder_is_named_and_resized_as_in_training():
    dataset = dict(type='ImageFolder', data_root='r', data_prefix='val', resize=[10, 20])
    cfg = deployed_config(PLAIN, trained(dataset), 32)
    assert (cfg.test_dataloader.dataset.data_root, cfg.test_dataloader.dataset.data_prefix) == (
        'r',
        'val',
    )
    assert cfg.test_pipeline[1]['scale'] == (20, 10)


@pytest.mark.parametrize('to_rgb', [True, False])
def test_a_file_pipeline_stays_as_it_is(to_rgb):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='CenterCrop', crop_size=8)]
    preprocessor = dict(type='ClsDataPreprocessor', mean=MEAN, std=STD, to_rgb=to_rgb)
    dataset = dict(type='CustomDataset', pipeline=pipeline)
    cfg = deployed_config(PLAIN, trained(dataset, preprocessor), 32)
    assert cfg.test_pipeline == pipeline
    assert cfg.data_preprocessor.get('to_rgb', False) is to_rgb


@pytest.mark.parametrize('to_rgb', [True, False])
def test_arrays_are_rgb_but_files_are_read_as_bgr(to_rgb):
    preprocessor = dict(type='ClsDataPreprocessor', mean=MEAN, std=STD, to_rgb=to_rgb)
    dataset = dict(type='mmpretrain.CIFAR10', pipeline=[dict(type='PackInputs')])
    cfg = deployed_config(PLAIN, trained(dataset, preprocessor), 32)
    assert [step['type'] for step in cfg.test_pipeline] == ['LoadImageFromFile', 'PackInputs']
    assert cfg.data_preprocessor.to_rgb is not to_rgb


def test_without_data_sets_and_normalisation():
    cfg = deployed_config(PLAIN, trained(), 8)
    assert cfg.data_preprocessor == dict(type='ClsDataPreprocessor', to_rgb=True)


def test_imports_are_those_that_the_model_needs():
    imports = dict(imports=['mmkdfuse.registry', 'my.hooks', 'tests_own.backbones'])
    source = trained(custom_imports=imports)
    assert deployed_config(OURS, source, 8).custom_imports.imports == ['mmkdfuse.registry']
    assert 'custom_imports' not in deployed_config(PLAIN, source, 8)


def test_a_users_backbone_is_imported_from_where_it_was():
    backbone = type('UsersBackbone', (), dict(__module__='users.backbones.tiny'))
    MODELS.register_module(module=backbone)
    try:
        model = dict(type='mmpretrain.ImageClassifier', backbone=dict(type='UsersBackbone'))
        source = trained(custom_imports=dict(imports=['users.backbones', 'users.back']))
        assert deployed_config(model, source, 8).custom_imports.imports == ['users.backbones']
    finally:
        del MODELS.module_dict['UsersBackbone']
