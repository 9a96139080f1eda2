"""Registries of scope ``mmkdfuse``, children of mmpretrain's or, where it has none, mmengine's.

A type without prefix is looked up here, then in mmpretrain, then in mmengine. Every registry kind
has a child, because mmengine warns at each look-up of a kind that lacks one. Parents' locations are
not imported by mmengine's look-up, so each child lists them with its own.
"""

import warnings

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry
from mmpretrain import registry as mmpretrain_registry

# mmcv-lite has no compiled operators, and image classification needs none of them.
warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeformableAttention``')


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(name, parent=parent, scope='mmkdfuse', locations=list(locations))


_ENGINE = ('mmpretrain.engine', 'mmkdfuse.engine')
_DATASETS = ('mmpretrain.datasets', 'mmkdfuse.datasets')
_MODELS = ('mmpretrain.models', 'mmkdfuse.models')
_EVALUATION = ('mmpretrain.evaluation', 'mmkdfuse.evaluation')
_VISUALIZATION = ('mmpretrain.visualization',)

RUNNERS = _child('runner', mmpretrain_registry.RUNNERS, *_ENGINE)
RUNNER_CONSTRUCTORS = _child(
    'runner constructor', mmpretrain_registry.RUNNER_CONSTRUCTORS, *_ENGINE
)
LOOPS = _child('loop', mmpretrain_registry.LOOPS, *_ENGINE)
HOOKS = _child('hook', mmpretrain_registry.HOOKS, *_ENGINE)
LOG_PROCESSORS = _child('log processor', mmpretrain_registry.LOG_PROCESSORS, *_ENGINE)
STRATEGIES = _child('strategy', mmengine_registry.STRATEGIES, *_ENGINE)
OPTIMIZERS = _child('optimizer', mmpretrain_registry.OPTIMIZERS, *_ENGINE)
OPTIM_WRAPPERS = _child('optimizer wrapper', mmpretrain_registry.OPTIM_WRAPPERS, *_ENGINE)
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optimizer wrapper constructor', mmpretrain_registry.OPTIM_WRAPPER_CONSTRUCTORS, *_ENGINE
)
PARAM_SCHEDULERS = _child('parameter scheduler', mmpretrain_registry.PARAM_SCHEDULERS, *_ENGINE)

DATASETS = _child('dataset', mmpretrain_registry.DATASETS, *_DATASETS)
DATA_SAMPLERS = _child('data sampler', mmpretrain_registry.DATA_SAMPLERS, *_DATASETS)
TRANSFORMS = _child('transform', mmpretrain_registry.TRANSFORMS, *_DATASETS)
FUNCTIONS = _child('function', mmengine_registry.FUNCTIONS, *_DATASETS)

# The data preprocessors are models to mmengine but belong to the datasets here.
MODELS = _child('model', mmpretrain_registry.MODELS, *_MODELS, 'mmkdfuse.datasets')
MODEL_WRAPPERS = _child('model wrapper', mmpretrain_registry.MODEL_WRAPPERS, *_MODELS)
WEIGHT_INITIALIZERS = _child(
    'weight initializer', mmpretrain_registry.WEIGHT_INITIALIZERS, *_MODELS
)
BATCH_AUGMENTS = _child('batch augment', mmpretrain_registry.BATCH_AUGMENTS, *_MODELS)
TASK_UTILS = _child('task util', mmpretrain_registry.TASK_UTILS, *_MODELS)
TOKENIZER = _child('tokenizer', mmpretrain_registry.TOKENIZER, *_MODELS)

METRICS = _child('metric', mmpretrain_registry.METRICS, *_EVALUATION)
EVALUATORS = _child('evaluator', mmpretrain_registry.EVALUATORS, *_EVALUATION)

VISUALIZERS = _child('visualizer', mmpretrain_registry.VISUALIZERS, *_VISUALIZATION)
VISBACKENDS = _child('vis backend', mmpretrain_registry.VISBACKENDS, *_VISUALIZATION)
INFERENCERS = _child('inferencer', mmengine_registry.INFERENCERS)
