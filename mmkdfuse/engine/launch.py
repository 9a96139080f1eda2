"""Training, testing and loading: the functions behind the tools, for Python and notebooks too."""

import copy
import itertools
import os
from pathlib import Path
from typing import Any, TypeAlias

import torch
from mmengine import dump
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from mmkdfuse.checkpoint import latest_checkpoint, load_strictly
from mmkdfuse.checkpoint_reader import checkpoint_path
from mmkdfuse.engine.amp import amp_optim_wrapper
from mmkdfuse.engine.config_file import (
    ConfigError,
    merge_changes,
    read_config,
    with_plain_values,
)
from mmkdfuse.engine.error_text import note_start
from mmkdfuse.engine.hooks.compile_hook import CompileHook
from mmkdfuse.engine.hooks.loss_context_hook import LossContextHook
from mmkdfuse.engine.host_memory import keep_freed_memory
from mmkdfuse.engine.loss_context import unwrapped
from mmkdfuse.engine.pretrained import StartWeightsHook
from mmkdfuse.engine.run_record import last_validation, write_record
from mmkdfuse.models.file_weights import read_weights_for
from mmkdfuse.registry import MODELS

ConfigLike: TypeAlias = str | os.PathLike | Config
LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


_RUNS = itertools.count()
_UPSTREAM_HOOKS = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
)


def train(
    config: ConfigLike,
    *,
    work_dir: str | os.PathLike | None = None,
    resume: bool | str = False,
    amp: bool = False,
    validate: bool = True,
    launcher: str = 'none',
    auto_scale_lr: bool = False,
    preflight: bool = True,
    cfg_options: dict[str, Any] | None = None,
    **overrides: Any,
) -> dict[str, float]:
    """Train as ``tools/train.py`` does.

    Args:
        config: Path of a config file, the name of a shipped one (``'kfmsd/resnet18_cifar100'``) or
            a loaded config, which is not changed.
        work_dir: Folder of logs and checkpoints; default the config's, else
            ``work_dirs/<folder>/<config name>``.
        resume: True to go on from the latest checkpoint of ``work_dir``, or a checkpoint's path.
            Where there is none, training starts as without it, from ``load_from`` if the config
            names weights (see :func:`mmkdfuse.engine.pretrained.load_start_weights`).
        amp: Mixed precision: bf16 on CPUs, fp16 with loss scaling on GPUs.
        validate: False to train without validation.
        launcher: ``'none'``, ``'pytorch'`` (torchrun), ``'slurm'`` or ``'mpi'``.
        auto_scale_lr: Scale the learning rate with the total batch, whatever the config says.
        preflight: Check config, data and one step before training.
        cfg_options: Changes with dotted keys, ``{'model.gamma': 0.5}``.
        **overrides: Changes as nested values, ``model=dict(gamma=0.5)``.

    Returns:
        The last validation's metrics; also in ``metrics.json`` of the work directory, with seed,
        seconds and versions.

    Raises:
        ConfigError: If the preflight finds mistakes; the message lists all of them.
    """
    cfg = load_config(config, cfg_options, **overrides)
    _set_work_dir(cfg, work_dir)
    _set_launcher(cfg, launcher)
    if not validate:
        cfg.update(dict(val_cfg=None, val_dataloader=None, val_evaluator=None))
    if amp and isinstance(cfg.get('optim_wrapper'), dict):
        cfg.optim_wrapper = amp_optim_wrapper(cfg.optim_wrapper)
    if auto_scale_lr:
        if not isinstance(cfg.get('auto_scale_lr'), dict):
            raise ValueError(
                'auto_scale_lr=True needs auto_scale_lr.base_batch_size in the config.'
            )
        cfg.auto_scale_lr.enable = True
    if resume:
        found = latest_checkpoint(cfg.work_dir) if resume is True else str(resume)
        cfg.resume = found is not None
        if found is not None:
            cfg.load_from = found
        else:
            print(f'resume: {cfg.work_dir} holds no checkpoint, training starts from the beginning')
    started_group = _prepare_processes(cfg)
    if not torch.cuda.is_available():
        keep_freed_memory()
    try:
        if preflight:
            _run_preflight(cfg)
        context: LossContextHook | None = None
        try:
            runner = _build_runner(cfg)
            context = _context_of(runner)
            runner.register_hook(StartWeightsHook())
            _compile(runner)
            runner.train()
        except Exception as error:
            if context is None or not context.begun:
                note_start(error)
            raise
        metrics = last_validation(runner)
        if is_main_process():
            write_record(runner, metrics)
    finally:
        if started_group:
            torch.distributed.destroy_process_group()
    return metrics


def test(
    config: ConfigLike,
    checkpoint: str | os.PathLike,
    *,
    work_dir: str | os.PathLike | None = None,
    launcher: str = 'none',
    out: str | os.PathLike | None = None,
    out_item: str = 'pred',
    preflight: bool = True,
    cfg_options: dict[str, Any] | None = None,
    **overrides: Any,
) -> dict[str, float]:
    """Score a checkpoint on the test set as ``tools/test.py`` does.

    Args:
        config: As for :func:`train`.
        checkpoint: File whose keys must match the model's exactly.
        work_dir: Folder of the log.
        launcher: As for :func:`train`.
        out: Write predictions (``.pkl``) or metrics (``.json``, ``.yaml``) to this file.
        out_item: ``'pred'`` or ``'metrics'``.
        preflight: Check config, model and test data first; what only training reads is left alone.
        cfg_options: As for :func:`train`.
        **overrides: As for :func:`train`.

    Returns:
        The metrics.

    Raises:
        ConfigError: If the preflight finds mistakes; the message lists all of them.
    """
    if out_item not in ('pred', 'metrics'):
        raise ValueError(f"out_item={out_item!r} must be 'pred' or 'metrics'.")
    cfg = load_config(config, cfg_options, **overrides)
    _set_work_dir(cfg, work_dir)
    _set_launcher(cfg, launcher)
    cfg.load_from, cfg.resume = None, False
    if not os.path.isfile(checkpoint):
        raise FileNotFoundError(f"checkpoint '{checkpoint}' does not exist: check the path")
    started_group = _prepare_processes(cfg)
    try:
        if preflight:
            _run_preflight(cfg, testing=True)
        try:
            runner = _build_runner(cfg)
            _load_weights(unwrapped(runner.model), checkpoint)
        except Exception as error:
            note_start(error)
            raise
        if out and out_item == 'pred':
            runner.test_evaluator.metrics.append(DumpResults(out_file_path=str(out)))
        metrics = runner.test()
        if out and out_item == 'metrics' and is_main_process():
            dump(metrics, str(out))
    finally:
        if started_group:
            torch.distributed.destroy_process_group()
    return metrics


def load(
    config: ConfigLike,
    checkpoint: str | os.PathLike | None = None,
    *,
    device: str | torch.device = 'cpu',
    cfg_options: dict[str, Any] | None = None,
    **overrides: Any,
) -> nn.Module:
    """Build a config's model, load a checkpoint strictly, and return it in eval mode.

    Args:
        config: As for :func:`train`.
        checkpoint: File whose keys must match the model's exactly; None keeps random weights.
        device: Device of the model.
        cfg_options: As for :func:`train`.
        **overrides: As for :func:`train`.
    """
    cfg = load_config(config, cfg_options, **overrides)
    model = build_model(cfg)
    if checkpoint is not None:
        _load_weights(model, checkpoint)
    return model.to(device).eval()


def load_config(
    config: ConfigLike, cfg_options: dict[str, Any] | None = None, **overrides: Any
) -> Config:
    """Read a config and merge changes into it.

    Raises:
        FileNotFoundError: If there is neither such a file nor a shipped config of that name.
        ConfigError: If the file cannot be read, or a change does not fit.
    """
    if isinstance(config, Config):
        cfg = copy.deepcopy(config)
    else:
        cfg = read_config(_find_config(config), import_custom_modules=True)
    for changes in (overrides, cfg_options):
        merge_changes(cfg, changes)
    with_plain_values(cfg._cfg_dict)
    for key in ('val_evaluator', 'test_evaluator'):
        if isinstance(cfg.get(key), tuple):
            cfg[key] = list(cfg[key])  # the Runner takes no tuple here
    return cfg


def build_model(cfg: Config) -> nn.Module:
    """Build ``cfg.model`` with the top-level data preprocessor, as the runner does.

    Raises:
        ConfigError: If it cannot be built; the sentences name the values.
    """
    init_default_scope(cfg.get('default_scope', 'mmkdfuse'))
    try:
        model = copy.deepcopy(cfg.model)
        if cfg.get('data_preprocessor'):
            model.setdefault('data_preprocessor', copy.deepcopy(cfg.data_preprocessor))
        return MODELS.build(model)
    except Exception as error:
        from mmkdfuse.engine.preflight import mistakes_of_model

        raise ConfigError(mistakes_of_model(cfg, error)) from error


def _find_config(config: str | os.PathLike) -> str:
    """Path of a config given by path, or by name among the shipped ones."""
    path = Path(config)
    if path.is_file():
        return str(path)
    package = Path(__file__).resolve().parents[1]
    for root in (package / '.mim' / 'configs', package.parent / 'configs'):
        named = root / path.parent / f'{path.name.removesuffix(".py")}.py'
        if named.is_file():
            return str(named)
    raise FileNotFoundError(
        f'config={str(config)!r} is neither a file nor the name of a shipped config such as '
        "'kfmsd/resnet18_cifar100'."
    )


def _set_work_dir(cfg: Config, work_dir: str | os.PathLike | None) -> None:
    """Take the argument's, else the config's, else ``work_dirs/<folder>/<name>`` of its file.

    The folder counts, because ``kfmsd/resnet18_cifar10`` and ``baseline/resnet18_cifar10`` must not
    share checkpoints.
    """
    if work_dir is not None:
        cfg.work_dir = str(work_dir)
    elif cfg.get('work_dir') is None:
        source = Path(cfg.filename or 'python/run.py').absolute()
        cfg.work_dir = str(Path('work_dirs') / source.parent.name / source.stem)


def _set_launcher(cfg: Config, launcher: str) -> None:
    """Take the argument's; a wrong one of the config is a mistake all the same."""
    written = cfg.get('launcher')
    if written is not None and written not in LAUNCHERS:
        names = ', '.join(map(repr, LAUNCHERS))
        raise ConfigError([f'`launcher` = {written!r}: expected one of {names}.'])
    cfg.launcher = launcher


def _prepare_processes(cfg: Config) -> bool:
    """Start the process group on machines without GPU; return whether it was started here.

    mmengine selects a CUDA device unconditionally, so on CPUs the group must exist before.
    """
    if cfg.launcher not in LAUNCHERS:
        raise ValueError(f'launcher={cfg.launcher!r} must be one of {LAUNCHERS}.')
    if cfg.launcher == 'none' or torch.cuda.is_available():
        return False
    if cfg.launcher != 'pytorch':
        raise ValueError(f"launcher={cfg.launcher!r} needs GPUs; on CPUs use 'pytorch' (torchrun).")
    if 'RANK' not in os.environ:
        raise ValueError("launcher='pytorch': start with torchrun or tools/dist_train.sh.")
    wrapper = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {})}
    torch.distributed.init_process_group('gloo')
    return True


def _run_preflight(cfg: Config, testing: bool = False) -> None:
    from mmkdfuse.engine.preflight import preflight

    report = preflight(cfg, training=not testing, testing=testing)
    if int(os.environ.get('RANK', 0)) == 0:
        advice = '\n'.join(f'warning: {each}' for each in report.advice)
        print(advice if testing else report, end='\n' if advice or not testing else '', flush=True)


def _build_runner(cfg: Config) -> Runner:
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name)
        if loader is not None:
            loader.setdefault('collate_fn', ConfigDict(type='default_collate'))
            loader.setdefault('pin_memory', torch.cuda.is_available())
    if 'default_hooks' in cfg:
        # mmengine drops a hook set to None only if it is one of its own defaults.
        hooks = cfg.default_hooks.items()
        cfg.default_hooks = {
            k: hook for k, hook in hooks if hook is not None or k in _UPSTREAM_HOOKS
        }
    number = next(_RUNS)
    if number:
        # mmengine shares log, message hub and curves between runs of one name in one second.
        name = cfg.get('experiment_name') or Path(cfg.filename or 'run').stem
        cfg.experiment_name = f'{name}_{number}'
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def _context_of(runner: Runner) -> LossContextHook:
    """Return the run's hook for losses, which configs may leave out."""
    for hook in runner.hooks:
        if isinstance(hook, LossContextHook):
            return hook
    hook = LossContextHook()
    runner.register_hook(hook)
    return hook


def _compile(runner: Runner) -> None:
    """Follow the config's ``compile``, a bool or arguments of ``torch.compile``."""
    # Taken out: the Runner would compile the whole training step, which fails in the second epoch.
    options = runner.cfg.pop('compile', None)
    if options or isinstance(options, dict):
        runner.register_hook(CompileHook(**(options if isinstance(options, dict) else {})))


def _load_weights(model: nn.Module, checkpoint: Any) -> None:
    name = f"checkpoint '{checkpoint_path(checkpoint)}'"
    load_strictly(model, read_weights_for(model, checkpoint, name), name)
