"""Slots of a config: keys with components, their registries, and other readers of them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

from mmengine.runner import Runner
from torch.utils.data import DataLoader

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


def _env_cfg(cudnn_benchmark=False, mp_cfg=None, dist_cfg=None, resource_limit=4096):
    """Signature of ``env_cfg``, which mmengine reads key by key."""


def _auto_scale_lr(base_batch_size, enable=False):
    """Signature of ``auto_scale_lr``, which mmengine reads key by key."""


def paramwise_cfg(
    lr_mult=1.0,
    decay_mult=1.0,
    bias_lr_mult=1.0,
    bias_decay_mult=1.0,
    norm_decay_mult=1.0,
    flat_decay_mult=1.0,
    dwconv_decay_mult=1.0,
    dcn_offset_lr_mult=1.0,
    bypass_duplicate=False,
    custom_keys=None,
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
    'randomness': Slot(None, Runner.set_randomness, complete=True, given=('self',)),
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
    'clip_grad': PLAIN,
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
