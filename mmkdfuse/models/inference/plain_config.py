"""Configs rewritten so that, where it can, mmpretrain alone builds them."""

import inspect
from typing import Any

from torch import nn

from mmkdfuse.registry import MODELS

# What matters in training only, or names files that the deployed network does not need.
_TRAINING_ONLY = ('init_cfg', 'frozen_stages', 'pretrained')
SCOPE = 'mmkdfuse'


def plain_config(cfg: Any) -> Any:
    """Copy a config without keys that only training needs; types of this package get its prefix.

    mmpretrain's scope, in which the deployed config is read, lacks them.
    """
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(plain_config(item) for item in cfg)
    if not isinstance(cfg, dict):
        return cfg
    copied = {key: plain_config(value) for key, value in cfg.items() if key not in _TRAINING_ONLY}
    name = copied.get('type')
    if isinstance(name, str) and name in MODELS.module_dict:
        copied['type'] = f'{SCOPE}.{name}'
    return copied


def types_in(cfg: Any) -> set[str]:
    """Every ``type`` in a config, at any depth."""
    if isinstance(cfg, (list, tuple)):
        return set().union(*(types_in(item) for item in cfg))
    if not isinstance(cfg, dict):
        return set()
    found = set().union(*(types_in(value) for value in cfg.values()))
    return found | {cfg['type']} if isinstance(cfg.get('type'), str) else found


def plain_backbone(cfg: dict, backbone: nn.Module) -> dict:
    """Config of a backbone without keys that only training needs, its outputs written out.

    Args:
        cfg: The config that was trained with.
        backbone: The module that was built from it.
    """
    plain = plain_config(cfg)
    indices = getattr(backbone, 'out_indices', None)
    if isinstance(indices, (tuple, list)) and _takes(type(backbone), 'out_indices'):
        plain['out_indices'] = tuple(indices)
    return plain


def last_map_only(cfg: dict) -> dict:
    """Config of a backbone that returns its last map only, built by mmpretrain if it has it."""
    indices = cfg.get('out_indices')
    if isinstance(indices, (tuple, list)):
        cfg = {**cfg, 'out_indices': (max(indices),)}
    return _UPSTREAM[cfg['type']](cfg) if cfg['type'] in _UPSTREAM else cfg


def _takes(owner: type, argument: str) -> bool:
    """Whether a class or one that it passes ``**kwargs`` on to has this argument."""
    inits = [vars(base)['__init__'] for base in owner.__mro__ if '__init__' in vars(base)]
    return any(argument in inspect.signature(init).parameters for init in inits)


def _vgg(cfg: dict) -> dict:
    """Name the same layers in mmpretrain, which cuts them elsewhere and knows one width only.

    Stage 4 of ours is its fifth block with the pool behind it.
    """
    if cfg.get('base_channels', 64) != 64 or cfg['out_indices'] != (3,):
        return cfg
    changes = dict(type='mmpretrain.VGG', out_indices=(4,), norm_cfg=dict(type='BN'))
    kept = {key: value for key, value in cfg.items() if key not in (*changes, 'base_channels')}
    changes['norm_cfg'] = cfg.get('norm_cfg', changes['norm_cfg'])
    return {**kept, **changes}


# Backbones of ours whose layers mmpretrain has too, with the same names of the weights.
_UPSTREAM = {'mmkdfuse.VGG': _vgg}
