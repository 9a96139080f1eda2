"""Slots of a config: keys with components, their registries, and other readers of them."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Annotated, Any, Literal

from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmkdfuse.engine.value_check import AboveZero, LogLevel, NotNegative, Positive, Range
from mmkdfuse.models.classifiers.trainable import Trainable
from mmkdfuse.models.inference.truncated_backbone import TruncatedBackbone


@dataclass(frozen=True)
class Slot:
    """A place in the config that holds a component (or a list or dict of them).

    Attributes:
        kind: Name of the registry its ``type`` belongs to; None: not a component.
        default: Type where ``type`` is absent: a registered name or a callable.
        typed: True if ``type`` must be there.
        complete: True if every keyword without default must be there.
        given: Keywords the surroundings fill in: not required.
        extra: Keywords the surroundings take out before the constructor is called.
    """

    kind: str | None
    default: str | Callable | None = None
    typed: bool = False
    complete: bool = False
    given: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


def _env_cfg(
    cudnn_benchmark: bool = False,
    mp_cfg: dict | None = None,
    dist_cfg: dict | None = None,
    resource_limit: Positive = 4096,
):
    """Signature of ``env_cfg``, which mmengine reads key by key."""


def _mp_cfg(
    mp_start_method: Literal['fork', 'spawn', 'forkserver'] = 'fork',
    opencv_num_threads: NotNegative = 0,
):
    """Signature of ``env_cfg.mp_cfg``, which mmengine hands to a function of its own."""


def _auto_scale_lr(base_batch_size: Positive, enable: bool = False):
    """Signature of ``auto_scale_lr``, which mmengine reads key by key."""


def _randomness(
    seed: Annotated[int, Range(0, 2**32 - 1)] | None,
    diff_rank_seed: bool = False,
    deterministic: bool = False,
):
    """Signature of ``randomness``, which the Runner hands to ``set_randomness``."""


def _clip_grad_norm(
    max_norm: Annotated[Real, Range(above=0)],
    norm_type: Annotated[Real, Range(above=0)] = 2.0,  # type: ignore[assignment]
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
):
    """Signature of ``clip_grad`` with ``type='norm'``."""


def _clip_grad_value(clip_value: Annotated[Real, Range(above=0)], foreach: bool | None = None):
    """Signature of ``clip_grad`` with ``type='value'``."""


CLIPPING: dict[str, Callable] = {'norm': _clip_grad_norm, 'value': _clip_grad_value}


def paramwise_cfg(
    lr_mult: float = 1.0,
    decay_mult: float = 1.0,
    bias_lr_mult: float = 1.0,
    bias_decay_mult: float = 1.0,
    norm_decay_mult: float = 1.0,
    flat_decay_mult: float = 1.0,
    dwconv_decay_mult: float = 1.0,
    dcn_offset_lr_mult: float = 1.0,
    bypass_duplicate: bool = False,
    custom_keys: dict[str, dict[str, float]] | None = None,
):
    """Signature of ``paramwise_cfg``, which the default constructor reads key by key."""


PLAIN = Slot(None)  # a `type` in there is no component
_LOADER = Slot(
    None,
    DataLoader,
    complete=True,
    extra=('num_batch_per_epoch', 'worker_init_fn', 'disable_subprocess_warning'),
)
_LOOP = Slot('LOOPS', complete=True, given=('runner', 'dataloader', 'evaluator'))
METRICS = Slot('METRICS', typed=True, complete=True)
_HOOKS = Slot('HOOKS', typed=True, complete=True, extra=('priority',))
# A distiller fills in the class count and image size of its networks.
_NETWORK = Slot('MODELS', typed=True, complete=True, given=('num_classes', 'image_size'))

# Top-level keys that hold components.
TOP = {
    'model': Slot('MODELS', typed=True, complete=True),
    'data_preprocessor': Slot('MODELS', 'mmpretrain.ClsDataPreprocessor'),
    'tta_model': Slot('MODELS', typed=True, given=('module',)),
    'model_wrapper_cfg': Slot('MODEL_WRAPPERS', 'MMDistributedDataParallel', given=('module',)),
    'train_dataloader': _LOADER,
    'val_dataloader': _LOADER,
    'test_dataloader': _LOADER,
    'train_cfg': replace(_LOOP, extra=('by_epoch',)),
    'val_cfg': replace(_LOOP, default='ValLoop'),
    'test_cfg': replace(_LOOP, default='TestLoop'),
    'val_evaluator': METRICS,
    'test_evaluator': METRICS,
    'optim_wrapper': Slot(
        'OPTIM_WRAPPERS',
        'OptimWrapper',
        given=('optimizer',),
        extra=('constructor', 'paramwise_cfg'),
    ),
    'param_scheduler': Slot(
        'PARAM_SCHEDULERS',
        typed=True,
        complete=True,
        given=('optimizer',),
        extra=('convert_to_iter_based', 'epoch_length'),
    ),
    'default_hooks': _HOOKS,
    'custom_hooks': _HOOKS,
    'log_processor': Slot('LOG_PROCESSORS', 'LogProcessor'),
    'visualizer': Slot('VISUALIZERS', 'Visualizer', given=('name',)),
    'vis_backends': Slot('VISBACKENDS', typed=True),
    'tta_pipeline': Slot('TRANSFORMS', typed=True),
    'randomness': Slot(None, _randomness, complete=True),
    'env_cfg': Slot(None, _env_cfg),
    'auto_scale_lr': Slot(None, _auto_scale_lr, complete=True),
}

# Keywords that hold components of another registry than the component they stand in.
INNER = {
    'dataset': Slot('DATASETS', typed=True, complete=True),
    'sampler': Slot('DATA_SAMPLERS', typed=True, given=('dataset',), complete=True),
    'batch_sampler': Slot('DATA_SAMPLERS', typed=True, given=('sampler', 'batch_size')),
    'collate_fn': Slot('FUNCTIONS', typed=True),
    'worker_init_fn': Slot('FUNCTIONS', typed=True),
    'pipeline': Slot('TRANSFORMS', typed=True, complete=True),
    'transforms': Slot('TRANSFORMS', complete=True),
    'policies': Slot('TRANSFORMS', extra=('magnitude_key', 'magnitude_range')),
    'metrics': METRICS,
    'optimizer': Slot('OPTIMIZERS', typed=True, given=('params',), complete=True),
    'mp_cfg': Slot(None, _mp_cfg),
    'dist_cfg': PLAIN,
    'targets': PLAIN,
    'vis_backends': Slot('VISBACKENDS', typed=True),
    'data_preprocessor': Slot('MODELS'),
    'augments': Slot('BATCH_AUGMENTS', typed=True, complete=True),
    'tokenizer': Slot('TOKENIZER'),
    'init_cfg': Slot('WEIGHT_INITIALIZERS', extra=('override', 'layer')),
    'override': Slot('WEIGHT_INITIALIZERS', extra=('name',)),
    'norm_cfg': Slot('MODELS', extra=('requires_grad',)),
    'act_cfg': Slot('MODELS', extra=('inplace',)),
    'losses': Slot('MODELS', typed=True, complete=True),
    'views': Slot('MODELS', typed=True, complete=True),
    'student': _NETWORK,
    'teacher': replace(_NETWORK, extra=('checkpoint',)),
}
NETWORK_KEYS = ('backbone', 'student', 'teacher')
_DEFAULT_TYPES = {
    'connector': 'MBCAConnector',
    'head': 'LinearClsHead',
    'data_preprocessor': 'mmpretrain.ClsDataPreprocessor',
}


def resolves_networks(target: object) -> bool:
    """Whether a class takes networks by name and fills in what it measures, wherever it is from."""
    return inspect.isclass(target) and issubclass(target, (Trainable, TruncatedBackbone))


def default_type(target: object, key: str) -> str | None:
    """Type that such a class builds where ``type`` is absent and its signature does not say."""
    if key == 'neck':
        return getattr(target, 'neck_type', None)
    return _DEFAULT_TYPES.get(key)


# Old OpenMMLab keys, which the Runner ignores.
MOVED = {
    'data': 'train_dataloader, val_dataloader and test_dataloader',
    'optimizer': 'optim_wrapper.optimizer',
    'optimizer_config': 'optim_wrapper.clip_grad',
    'lr_config': 'param_scheduler',
    'evaluation': 'val_evaluator and train_cfg.val_interval',
    'runner': 'train_cfg',
    'total_epochs': 'train_cfg.max_epochs',
    'checkpoint_config': 'default_hooks.checkpoint',
    'log_config': 'default_hooks.logger',
    'fp16': "optim_wrapper.type='AmpOptimWrapper'",
    'dist_params': 'env_cfg.dist_cfg',
    'resume_from': 'load_from together with resume=True',
    'seed': 'randomness.seed',
    'workflow': 'train_cfg and val_cfg',
}
RUNNER_KEYS = {
    *inspect.signature(Runner.__init__).parameters,
    *TOP,
    *('custom_imports', 'sync_bn', 'find_unused_parameters', 'compile', 'runner_type'),
} - {'self', 'cfg', 'tta_pipeline'}
GROUPS = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)

# Values of top-level keys.
Configs = dict | Sequence[dict]
TOP_VALUES: dict[str, Any] = {
    **dict.fromkeys(TOP, dict),
    **dict.fromkeys(('param_scheduler', 'val_evaluator', 'test_evaluator'), Configs),
    **dict.fromkeys(('vis_backends', 'tta_pipeline'), Configs),
    'custom_hooks': Sequence[dict],
    'custom_imports': dict,
    'compile': bool | dict,
    'default_scope': str,
    'experiment_name': str,
    'find_unused_parameters': bool,
    'launcher': Literal['none', 'pytorch', 'slurm', 'mpi'],
    'load_from': str,
    'log_level': LogLevel,
    'resume': bool,
    'runner_type': str,
    'sync_bn': Literal['torch', 'mmcv'],
    'work_dir': str,
}

# Top-level keys that the Runner reads even where they are None.
NEVER_NONE = ('randomness', 'env_cfg', 'log_level')

# Values of keys that the surroundings take out before the constructor is called.
EXTRA_VALUES: dict[str, Any] = {
    'by_epoch': bool,
    'checkpoint': str | None,
    'constructor': str,
    'convert_to_iter_based': bool,
    'epoch_length': Positive,
    'num_batch_per_epoch': Positive | None,
    'paramwise_cfg': dict | None,
    'priority': int | str,
}

# Ranges that classes of other packages leave to the first iteration, or to nobody.
_Rate = Annotated[float, Range(0)]
_Loop = {'val_interval': Positive, 'val_begin': NotNegative}
RANGES: dict[str, dict[str, Any]] = {
    'EpochBasedTrainLoop': {'max_epochs': Positive, **_Loop},
    'IterBasedTrainLoop': {'max_iters': Positive, **_Loop},
    'DataLoader': {
        'batch_size': Positive,
        'num_workers': NotNegative,
        'prefetch_factor': Positive | None,
        'timeout': _Rate,
    },
    '_ParamScheduler': {'begin': NotNegative, 'end': Positive},
    'ConstantParamScheduler': {'factor': AboveZero},
    'CosineAnnealingParamScheduler': {'T_max': Positive | None, 'eta_min': _Rate | None},
    'CosineRestartParamScheduler': {'periods': Sequence[Positive], 'eta_min': _Rate | None},
    'ExponentialParamScheduler': {'gamma': AboveZero},
    'LinearParamScheduler': {'start_factor': AboveZero, 'end_factor': _Rate},
    'MultiStepParamScheduler': {'milestones': Sequence[NotNegative], 'gamma': AboveZero},
    'PolyParamScheduler': {'eta_min': _Rate, 'power': _Rate},
    'StepParamScheduler': {'step_size': Positive, 'gamma': AboveZero},
    'CheckpointHook': {
        'interval': Annotated[int, Range(-1)],
        'max_keep_ckpts': Annotated[int, Range(-1)],
        'save_begin': NotNegative,
    },
    'LoggerHook': {'interval': Positive},
    'LogProcessor': {'window_size': Positive, 'num_digits': NotNegative},
    'BaseMetric': {'collect_device': Literal['cpu', 'gpu']},
    'Accuracy': {'topk': Positive | Sequence[Positive]},
    'EnsembleAccuracy': {'topk': Positive | Sequence[Positive]},
}

# Constructors that take any keyword and hand it to a function that takes none of them.
CLOSED = (CheckpointHook,)


def ranges_of(target: object) -> dict[str, Any]:
    """Annotations with a range of a class's keywords, its bases' included."""
    bases = target.__mro__ if inspect.isclass(target) else ()
    return {k: v for base in reversed(bases) for k, v in RANGES.get(base.__name__, {}).items()}
