"""Everything that can go wrong in the first minutes of a run, found in its first second."""

import copy
import gc
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmkdfuse.engine.config_check import ConfigCheck
from mmkdfuse.engine.config_file import ConfigError, read_config, with_plain_values
from mmkdfuse.engine.culprit import CulpritSearch
from mmkdfuse.engine.preflight_report import PreflightReport
from mmkdfuse.engine.sense_check import SenseCheck
from mmkdfuse.engine.trial import Trial, build_model


def preflight(
    cfg: Config, data: bool = True, training: bool = False, testing: bool = False
) -> PreflightReport:
    """Check a config before training: first without building anything, then on two images.

    The trial builds datasets and model on the CPU, takes one batch forward and backward and one
    through validation. Global random state and the config stay as they are; nothing is written.

    Args:
        cfg: The config.
        data: False to leave the datasets alone and try a random batch instead.
        training: True if training follows: files of teachers must exist. Otherwise the report says
            which are missing, and the trial goes on without any weights of files.
        testing: True if a test follows: what only training reads is left alone.

    Raises:
        ConfigError: If anything is wrong; it holds all mistakes.
    """
    cfg = copy.deepcopy(cfg)
    with_plain_values(cfg._cfg_dict)
    for key in _TRAINING_KEYS if testing else ():
        cfg.pop(key, None)
    check = ConfigCheck(cfg)
    mistakes = check.run()
    if not mistakes:
        sense = SenseCheck(cfg)
        sense.run(training=not testing)
        mistakes = sense.mistakes
    if mistakes:
        raise ConfigError(mistakes)
    scope = cfg.get('default_scope') or 'mmengine'
    with _random_state_kept(), _quiet(), DefaultScope.overwrite_default_scope(scope):
        trial = Trial(cfg, training, testing, check.arguments, sense)
        trial.run(data)
    mistakes, report, cause = trial.mistakes, trial.report, trial.cause
    del trial
    gc.collect()
    if mistakes:
        raise ConfigError(mistakes) from cause
    return report


# What a test does not read.
_TRAINING_KEYS = (
    *('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr'),
    *('val_dataloader', 'val_cfg', 'val_evaluator', 'optimizer'),
)


def mistakes_of_model(cfg: Config, error: Exception) -> list[str]:
    """Return sentences on a model that could not be built."""
    kept = ('model', 'data_preprocessor', 'default_scope', 'custom_imports')
    cfg = Config({key: copy.deepcopy(cfg.get(key)) for key in kept if cfg.get(key) is not None})
    check = ConfigCheck(cfg)
    mistakes = check.run()
    search = CulpritSearch(check.arguments)
    return mistakes or [search.explain(cfg, 'model', kept[:2], build_model, error)]


def check_file(path: str, cfg_options: dict | None = None, data: bool = True) -> int:
    """Run :func:`preflight` on a config file, print the outcome, return the exit status 0 or 1."""
    try:
        print(preflight(read_config(path, cfg_options), data))
    except ConfigError as error:
        noun = 'mistake' if len(error.mistakes) == 1 else 'mistakes'
        print(f'{len(error.mistakes)} {noun} in {path}:\n{error}')
        return 1
    return 0


@contextmanager
def _random_state_kept() -> Iterator[None]:
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed: it would seed the GPUs as well.
            torch.default_generator.manual_seed(0)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextmanager
def _quiet() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(level)
