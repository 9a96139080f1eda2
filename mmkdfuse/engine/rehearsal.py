"""Everything a Runner builds before the first iteration, without a Runner and its side effects."""

import copy
import logging
import math
import warnings
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.optim import OptimWrapper
from mmengine.registry import VISUALIZERS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

_STEPS = 20


class Rehearsal(Runner):
    """Runner that builds parts of a config and starts nothing: no folder, log, seed or device.

    Args:
        cfg: The config.
        model: The model that the optimiser gets.
        loaders: Loaders by split.

    Example:
        >>> cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1))))
        >>> type(Rehearsal(cfg, nn.Linear(1, 1), {}).optimise()).__name__
        'OptimWrapper'
    """

    def __init__(self, cfg: Config, model: nn.Module, loaders: Mapping[str, DataLoader]) -> None:
        self.cfg = copy.deepcopy(cfg)
        self.model = model
        self.logger = logging.getLogger('mmkdfuse.rehearsal')
        self.visualizer = SimpleNamespace(dataset_meta=None)
        self.param_schedulers = None
        self._randomness_cfg = self.cfg.get('randomness') or {}
        self._seed, self._world_size = 0, get_world_size()
        self._hooks: list = []
        self._train_dataloader = loaders.get('train')
        self._val_dataloader = loaders.get('val')
        self._test_dataloader = loaders.get('test')
        self._val_evaluator = self.cfg.get('val_evaluator')
        self._test_evaluator = self.cfg.get('test_evaluator')
        self._train_loop = self._val_loop = self._test_loop = None

    def plan(self, split: str) -> None:
        """Build the loop of a split."""
        loop = self.cfg[f'{split}_cfg']
        built = getattr(self, f'build_{split}_loop')(loop)
        setattr(self, f'_{split}_loop', built)

    def optimise(self, step: bool = False) -> OptimWrapper:
        """Build the optimiser's wrapper; with ``step`` clip the gradients, and step."""
        self.optim_wrapper = self.build_optim_wrapper(self.cfg.optim_wrapper)
        for wrapper in _wrappers(self.optim_wrapper) if step else ():
            groups = wrapper.optimizer.param_groups
            weights = [p for group in groups for p in group['params'] if p.grad is not None]
            if wrapper.clip_grad_kwargs and weights:
                wrapper.clip_func(weights, **wrapper.clip_grad_kwargs)
            wrapper.optimizer.step()
            broken = [g['lr'] for g in groups if not math.isfinite(g['lr'])]
            if broken:
                raise ValueError(f'lr={broken[0]} is no learning rate')
        return self.optim_wrapper

    def schedule(self, index: int | None) -> None:
        """Build the schedulers, or one of them, and take some steps.

        Raises:
            ValueError: If the learning rate is no number then.
        """
        self.plan('train')
        self.optimise()
        self.scale_lr(self.optim_wrapper, self.cfg.get('auto_scale_lr'))
        chosen = self.cfg.param_scheduler if index is None else self.cfg.param_scheduler[index]
        built: Any = self.build_param_scheduler(chosen)
        several = sum(built.values(), []) if isinstance(built, dict) else built
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of schedulers that step without the optimiser
            for scheduler in several:
                for _ in range(_STEPS):
                    scheduler.step()
        for wrapper in _wrappers(self.optim_wrapper):
            for group in wrapper.optimizer.param_groups:
                if not math.isfinite(group['lr']) or group['lr'] < 0:
                    raise ValueError(f'the learning rate becomes {group["lr"]:g}')

    def hook(self, key: str, index: int | None = None) -> None:
        """Build one hook of ``default_hooks`` or ``custom_hooks``."""
        hook = self.cfg.default_hooks[key] if index is None else self.cfg.custom_hooks[index]
        if hook is not None:
            self.register_hook(hook)

    def draw(self) -> None:
        """Build the visualizer, which must not become the global one."""
        visualizer = {**self.cfg.visualizer, 'name': 'rehearsal'}
        cls = visualizer.pop('type', 'Visualizer')
        if isinstance(cls, str):
            with VISUALIZERS.switch_scope_and_registry(None) as registry:
                cls = registry.get(cls)
        cls(**{'save_dir': self.cfg.get('work_dir') or '.', **visualizer})

    def report(self) -> None:
        """Build what formats the log lines."""
        self.build_log_processor(self.cfg.log_processor)


def _wrappers(wrapper: Any) -> list[OptimWrapper]:
    return list(wrapper.values()) if hasattr(wrapper, 'optim_wrappers') else [wrapper]
