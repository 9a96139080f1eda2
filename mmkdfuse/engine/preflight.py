"""Everything that can go wrong in the first minutes of a run, found in its first second."""

import copy
import gc
import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmkdfuse.engine.config_check import check_config, sentence
from mmkdfuse.engine.trial import PreflightReport, Trial


class ConfigError(ValueError):
    """All mistakes of a config, one sentence and one line each.

    Attributes:
        mistakes: The sentences.
    """

    def __init__(self, mistakes: Sequence[str]):
        self.mistakes = list(mistakes)
        super().__init__('\n'.join(self.mistakes))


def preflight(cfg: Config, data: bool = True, training: bool = False) -> PreflightReport:
    """Check a config before training: first without building anything, then on two images.

    The trial builds datasets and model on the CPU, takes one batch forward and backward and one
    through validation. Global random state and the config stay as they are; nothing is written.

    Args:
        cfg: The config.
        data: False to leave the datasets alone and try a random batch instead.
        training: True if training follows: files of teachers must exist. Otherwise the report says
            which are missing, and the trial goes on without any weights of files.

    Raises:
        ConfigError: If anything is wrong; it holds all mistakes.
    """
    mistakes = check_config(cfg)
    if mistakes:
        raise ConfigError(mistakes)
    scope = cfg.get('default_scope') or 'mmengine'
    with _random_state_kept(), _quiet(), DefaultScope.overwrite_default_scope(scope):
        trial = Trial(copy.deepcopy(cfg), training)
        trial.run(data)
    mistakes, report, cause = trial.mistakes, trial.report, trial.cause
    del trial
    gc.collect()
    if mistakes:
        raise ConfigError(mistakes) from cause
    return report


def check_file(path: str, cfg_options: dict | None = None, data: bool = True) -> int:
    """Run :func:`preflight` on a config file, print the outcome, return the exit status 0 or 1."""
    try:
        print(preflight(read_config(path, cfg_options), data))
    except ConfigError as error:
        noun = 'mistake' if len(error.mistakes) == 1 else 'mistakes'
        print(f'{len(error.mistakes)} {noun} in {path}:\n{error}')
        return 1
    return 0


def read_config(path: str, cfg_options: dict | None = None) -> Config:
    """Read a config file and apply changes to it.

    Raises:
        ConfigError: If the file or one of its bases cannot be read or a change does not fit.
    """
    try:
        # Modules are imported by the check, which reports every one that fails.
        cfg = Config.fromfile(path, import_custom_modules=False)
        cfg.merge_from_dict(cfg_options or {})
    except Exception as error:
        reason = f'{type(error).__name__}: {sentence(error)}'
        raise ConfigError([f'`{path}` cannot be read as a config: {reason}.']) from error
    return cfg


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
