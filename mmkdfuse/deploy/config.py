"""The config file of a deployed network: model, normalisation and how an image file is read."""

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from mmkdfuse.models.inference.plain_config import SCOPE, types_in
from mmkdfuse.models.probe import as_size
from mmkdfuse.registry import MODELS

_PREPROCESSOR_KEYS = ('mean', 'std', 'pad_size_divisor', 'pad_value', 'to_rgb')


def deployed_config(model: dict, trained: Config, image_size: int | Sequence[int]) -> Config:
    """Return a config with everything that mmpretrain needs to classify image files.

    Args:
        model: Config of the plain classifier.
        trained: The config that was trained with; normalisation and test images are taken from it.
        image_size: Side length or (height, width) of the images, in pixels.
    """
    pipeline, loads_files = _pipeline(trained, image_size)
    dataset = _test_dataset(trained)
    # Only a folder of images has a prefix.
    keys = ('data_root', 'data_prefix') if dataset.get('data_prefix') else ()
    folder = {key: dataset[key] for key in keys if key in dataset}
    cfg: dict[str, Any] = dict(default_scope='mmpretrain')
    imports = _imports(model, trained)
    if imports:
        cfg['custom_imports'] = dict(imports=imports, allow_failed_imports=False)
    cfg.update(
        model=model,
        data_preprocessor=_preprocessor(trained, loads_files),
        test_pipeline=pipeline,
        test_dataloader=dict(
            batch_size=32,
            num_workers=0,
            dataset=dict(type='CustomDataset', **folder, pipeline=pipeline),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        test_evaluator=dict(type='Accuracy', topk=1),
        test_cfg=dict(),
    )
    return Config(cfg)


def _test_dataset(trained: Config) -> dict:
    for split in ('test', 'val', 'train'):
        loader = trained.get(f'{split}_dataloader')
        if loader:
            return loader.dataset
    return {}


def _pipeline(trained: Config, image_size: int | Sequence[int]) -> tuple[list, bool]:
    """Steps from a file to the network's input, and whether the training's images were files."""
    dataset = _test_dataset(trained)
    load = dict(type='LoadImageFromFile')
    if dataset.get('pipeline'):
        steps = [dict(step) for step in dataset['pipeline']]
        loads_files = any(step['type'].endswith(load['type']) for step in steps)
        return (steps if loads_files else [load, *steps]), loads_files
    height, width = as_size(dataset.get('resize') or image_size)
    # Pillow, because the datasets in memory resize with it. Images of this size stay as they are.
    resize = dict(type='Resize', scale=(width, height), backend='pillow', interpolation='bilinear')
    return [load, resize, dict(type='PackInputs')], False


def _preprocessor(trained: Config, loads_files: bool) -> dict:
    given = trained.model.get('data_preprocessor') or trained.get('data_preprocessor') or {}
    kept = {key: given[key] for key in _PREPROCESSOR_KEYS if given.get(key) is not None}
    if not loads_files:
        # Datasets in memory hold RGB, a file is read as BGR.
        kept['to_rgb'] = not kept.get('to_rgb', False)
        # There it fills the border of the random crop.
        kept.pop('pad_value', None)
    return dict(type='ClsDataPreprocessor', **kept)


def _imports(model: dict, trained: Config) -> list[str]:
    """Modules that have to be imported before the model can be built."""
    types = types_in(model)
    own = [f'{SCOPE}.registry'] if any(name.startswith(f'{SCOPE}.') for name in types) else []
    classes = [MODELS.get(name) for name in types]
    sources = {found.__module__ for found in classes if found is not None}
    given = (trained.get('custom_imports') or {}).get('imports') or []
    users = [
        name
        for name in ([given] if isinstance(given, str) else given)
        if name.split('.')[0] != SCOPE
        and any(f'{source}.'.startswith(f'{name}.') for source in sources)
    ]
    return users + own
