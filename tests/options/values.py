"""A value for every option of every class, one line each, and what it takes to act.

Texts may name files that the tests write: ``'{folder}/teacher.pth'``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

K, SIDE = 5, 16
NETWORK = dict(arch='resnet8x4', base_channels=4, stem_channels=4)
OTHER = dict(arch='vgg8', base_channels=4)
TEACHER = dict(
    arch='resnet8x4', base_channels=8, stem_channels=4, checkpoint='{folder}/teacher.pth'
)
OTHER_TEACHER = dict(arch='vgg8', base_channels=4, checkpoint='{folder}/other_teacher.pth')
# Of a class count that a model's own does not change.
WHOLE_TEACHER = dict(
    type='mmkdfuse.Classifier',
    backbone={key: value for key, value in TEACHER.items() if key != 'checkpoint'},
    num_classes=K,
    image_size=SIDE,
    checkpoint='{folder}/teacher.pth',
)
SHAPES = [(4, 16, 16), (8, 8, 8), (12, 4, 4)]
CONNECTOR = dict(type='mmkdfuse.MBCAConnector')
PATH = dict(
    type='mmkdfuse.AlignedNeck',
    student_shape=(6, 4, 4),
    teacher_shape=(8, 8, 8),
    connector=CONNECTOR,
)
KFM_NECK = dict(type='mmkdfuse.KFMNeck', stage_shapes=SHAPES)
LINEAR = dict(type='mmpretrain.LinearClsHead', num_classes=K, in_channels=6)
STACKED = dict(type='mmpretrain.StackedLinearClsHead', mid_channels=[7])
SMOOTH = dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.3)
GEM = dict(type='mmpretrain.GeneralizedMeanPooling')
CONSTANT = [
    dict(type='Constant', layer=['Conv2d', 'Linear', 'ConvTranspose2d'], val=0.07, bias=0.03),
    dict(type='Constant', layer='BatchNorm2d', val=0.6, bias=0.2),
]
MIXUP = dict(augments=dict(type='Mixup', alpha=0.8))
TASK = dict(type='mmkdfuse.ClassificationLoss', weight=0.5)
KD = dict(type='mmkdfuse.KDLoss', weight=0.5)


@dataclass(frozen=True)
class Try:
    """A value to try.

    Attributes:
        value: It.
        beside: Options with which it acts, the same with and without it.
    """

    value: Any
    beside: dict[str, Any]


@dataclass(frozen=True)
class Exempt:
    """An option that is not tried.

    Attributes:
        reason: Why.
    """

    reason: str


def beside(value: Any, **options: Any) -> Try:
    """A value that acts beside other options."""
    return Try(value, options)


FILLED_IN = Exempt('filled in by the Runner; a config cannot set it')

# What a class must be given; classes inherit it.
BASES: dict[str, dict[str, Any]] = {
    'SingleBackbone': dict(backbone=NETWORK, num_classes=K, image_size=SIDE),
    'Distiller': dict(
        student=NETWORK, teacher=TEACHER, num_classes=K, image_size=SIDE, kd_weight=0.8
    ),
    'DKD': dict(student=NETWORK, teacher=TEACHER, num_classes=K, image_size=SIDE),
    'FitNet': dict(student=NETWORK, teacher=TEACHER, num_classes=K, image_size=SIDE),
    'KD': dict(student=NETWORK, teacher=TEACHER, num_classes=K, image_size=SIDE),
    'MFAKD': dict(student=NETWORK, teacher=TEACHER, num_classes=K, image_size=SIDE),
    # Backbones.
    'MobileNetV1': dict(base_channels=4),
    'MobileNetV2_CIFAR': dict(base_channels=4),
    'ResNet10': dict(base_channels=8, stem_channels=8, out_indices=(0, 1, 2, 3)),
    'ResNeXt_CIFAR': dict(depth=50, base_channels=8, stem_channels=8, out_indices=(0, 1, 2, 3)),
    'ShuffleNetV1_CIFAR': dict(base_channels=12),
    'ShuffleNetV2_CIFAR': dict(base_channels=8),
    'SqueezeNet': dict(base_channels=2),
    'ThreeStageResNet': dict(depth=8, base_channels=8, stem_channels=8),
    'VGG': dict(depth=11, base_channels=4),
    'WideResNet': dict(depth=10, base_channels=8),
    # Necks, connectors, heads.
    'AlignedNeck': {key: value for key, value in PATH.items() if key != 'type'},
    'AlignedNecks': dict(paths=[PATH]),
    'FinalConv': dict(in_channels=6, out_channels=8),
    'MBCAConnector': dict(in_channels=6, out_channels=8),
    'BranchHead': dict(num_classes=K, in_channels=6, num_features=3),
    'EnsembleHead': dict(num_classes=K, in_channels=6, num_features=3),
    'MeanHead': dict(heads=[LINEAR, LINEAR]),
    'BranchPath': dict(neck=KFM_NECK, branch=1),
    'TruncatedBackbone': dict(backbone=NETWORK, stages=2, image_size=SIDE),
    'FoldedClassifier': dict(
        image_size=SIDE,
        backbone=dict(
            type='mmkdfuse.ThreeStageResNet',
            **dict(depth=8, base_channels=4, stem_channels=4, out_indices=(2,)),
        ),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=K, in_channels=16),
    ),
    # Data sets.
    'CIFAR10': dict(data_root='{folder}/CIFAR10'),
    'CIFAR100': dict(data_root='{folder}/CIFAR100'),
    'ImageFolder': dict(data_root='{folder}/images'),
    'TinyImageNet': dict(data_root='{folder}/tiny', num_classes=3, per_class=4),
    # The rest.
    'BatchPreprocessor': dict(crop_padding=2, flip_prob=0.5, pad_value=7),
    'EnsembleAccuracy': dict(),
    'ResumableEpochTrainLoop': dict(max_epochs=3),
}


# By option, or by class and option where the class has another meaning or needs another value.
VALUES: dict[str | tuple[str, str], Any] = {
    # Models.
    'backbone': OTHER,
    ('FoldedClassifier', 'backbone'): dict(
        type='mmkdfuse.WideResNet', depth=10, base_channels=4, out_indices=(2,)
    ),
    'student': OTHER,
    'teacher': beside(OTHER_TEACHER, teacher=TEACHER, losses=[KD]),
    ('Distiller', 'num_classes'): beside(7, teacher=WHOLE_TEACHER),
    ('Distiller', 'teacher'): OTHER_TEACHER,
    'num_classes': 7,
    'image_size': 24,
    ('TruncatedBackbone', 'image_size'): Exempt('size of a dry run, which finds the same layers'),
    ('FoldedClassifier', 'image_size'): Exempt('size of a dry run, which finds the same pairs'),
    'neck': GEM,
    ('BranchedClassifier', 'neck'): dict(branches=1),
    ('BYOT', 'neck'): dict(form='conference'),
    ('FKD', 'neck'): dict(reduction=1),
    ('BranchPath', 'neck'): dict(KFM_NECK, module='sepconv'),
    'head': dict(type='mmpretrain.LinearClsHead', loss=SMOOTH),
    ('FoldedClassifier', 'head'): dict(STACKED, num_classes=K, in_channels=16),
    'branch_classes': 20,
    'predict_from': 'ensemble',
    'losses': [TASK],
    ('KD', 'losses'): beside([TASK], ce_weight=None),
    'views': dict(type='OptionTestViews'),
    'verify_teacher': beside(False, teacher=TEACHER, losses=[KD]),
    ('Distiller', 'verify_teacher'): False,
    'data_preprocessor': dict(mean=[1.0] * 3, std=[3.0] * 3),
    'train_cfg': MIXUP,
    ('FoldedClassifier', 'train_cfg'): beside(MIXUP, data_preprocessor=dict(num_classes=K)),
    'pretrained': '{folder}/network.pth',
    ('FoldedClassifier', 'pretrained'): '{folder}/folded.pth',
    # A part's own initialisation comes behind that of the whole.
    'init_cfg': CONSTANT,
    ('MeanHead', 'init_cfg'): beside(CONSTANT, heads=[dict(LINEAR, init_cfg=None)] * 2),
    ('TruncatedBackbone', 'init_cfg'): beside(CONSTANT, backbone=dict(NETWORK, init_cfg=None)),
    ('FoldedClassifier', 'init_cfg'): beside(
        CONSTANT,
        head=dict(LINEAR, in_channels=16, init_cfg=None),
    ),
    ('BranchFeatureLoss', 'init_cfg'): beside(CONSTANT, adapters=True, detach='main'),
    'peers': 2,
    # Methods.
    'ce_weight': 0.3,
    'kd_weight': 0.3,
    'tau': 2.0,
    ('FitNet', 'tau'): beside(2.0, kd_weight=1.0),
    'alpha': 0.6,
    'beta': 0.4,
    'gamma': 0.4,
    'delta': 0.5,
    'mutual_loss': dict(tau=1.5),
    'feature_loss': dict(reduction='squared'),
    'feature_weight': 0.5,
    'scale_by_tau2': True,
    ('BYOT', 'adapters'): False,
    ('BranchFeatureLoss', 'adapters'): beside(True, detach='main'),
    ('BranchFeatureLoss', 'exempt_deepest'): True,
    ('BYOT', 'exempt_deepest'): False,
    'hint_weight': 3.0,
    'stage': 1,
    'warmup_epochs': 5,
    'connector': dict(reduction=4),
    ('AlignedNeck', 'connector'): dict(CONNECTOR, reduction=4),
    'loss': 'smooth_l1',
    # Losses.
    'weight': 0.4,
    'distance': 'rmse',
    'normalize': 'variance',
    'teachers': 2,
    'detach_target': False,
    'direction': 'to_main',
    'reduction': 4,
    ('BranchFeatureLoss', 'reduction'): 'norm',
    'detach': None,
    'target': 'last_branch',
    'heads': 'main',
    ('KDLoss', 'heads'): 'branch1',
    'head_weights': dict(branch1=3.0),
    'name': 'loss_other',
    'teacher_heads': ['branch1', 'main'],
    'teacher_head': 'last_branch',
    # Necks, connectors, heads.
    'stage_shapes': [(3, 9, 9), (5, 5, 5), (7, 3, 3)],
    'form': 'conference',
    'fuse': 'none',
    'module': 'sepconv',
    'width': 3,
    'branches': 1,
    ('MBCAConnector', 'branches'): ['pointwise'],
    'share_modules': True,
    'kfm': dict(eps=0.5),
    'pooling': GEM,
    'eps': 0.5,
    'student_shape': (6, 2, 2),
    'teacher_shape': (9, 8, 8),
    'teacher_neck': GEM,
    'paths': [dict(PATH, connector=dict(CONNECTOR, reduction=4))],
    'in_channels': 4,
    'out_channels': 10,
    'num_features': 4,
    'upsample': 'bilinear',
    'scale': beside(2, upsample='transposed'),
    ('KFMSD', 'scale'): 'labels',
    'branch': 2,
    'main': STACKED,
    'cal_acc': True,
    'topk': 3,
    ('ClsHead', 'topk'): beside((1, 3), cal_acc=True),
    ('ClsHead', 'loss'): SMOOTH,
    ('MeanHead', 'heads'): [
        LINEAR,
        dict(LINEAR, type='mmpretrain.StackedLinearClsHead', mid_channels=[7]),
    ],
    'stages': 1,
    # Backbones.
    'depth': 14,
    ('ResNeXt_CIFAR', 'depth'): 101,
    ('VGG', 'depth'): 13,
    ('WideResNet', 'depth'): 16,
    'base_channels': 16,
    ('ShuffleNetV1_CIFAR', 'base_channels'): 24,
    'stem_channels': 12,
    'first_stride': 1,
    'out_indices': (0, 1),
    'num_stages': beside(3, out_indices=(0, 1)),
    'strides': (1, 1, 2, 2),
    'dilations': (1, 1, 1, 2),
    'style': 'caffe',
    'deep_stem': True,
    'avg_down': True,
    'expansion': 2,
    'frozen_stages': 1,
    'conv_cfg': dict(type='OptionTestConv'),
    'norm_cfg': dict(type='GN', num_groups=2),
    'norm_eval': True,
    'with_cp': True,
    'zero_init_residual': False,
    ('ThreeStageResNet', 'zero_init_residual'): True,
    'drop_path_rate': 0.5,
    'groups': 16,
    'width_per_group': 2,
    # Data sets.
    'data_root': beside('{folder}/nothing', download=False),
    ('ImageFolder', 'data_root'): '{folder}/nothing',
    'split': 'test',
    ('TinyImageNet', 'split'): 'val',
    'data_prefix': 'val',
    'download': beside(False, data_root='{folder}/nothing'),
    'cache': '{folder}/cache',
    'subset': 3,
    'subset_seed': beside(4, subset=3),
    'test_mode': Exempt('kept as an attribute, as in the data sets of mmpretrain; documented'),
    'classes': ['bee', 'ant'],
    'reference_prefix': 'odd',
    'resize': 6,
    'memory_share': 0.0,
    'per_class': 3,
    # Preprocessor and metric.
    'mean': beside([1.0, 2.0, 3.0], mean=[0.0] * 3, std=[1.0] * 3),
    'std': beside([1.0, 2.0, 3.0], mean=[1.0] * 3, std=[1.0] * 3),
    'crop_padding': 3,
    'flip_prob': 0.9,
    'pad_value': 99,
    'seed': 3,
    'counter': 'iter',
    'as_data_samples': True,
    'channels_last': True,
    'batch_augments': dict(augments=[]),
    'non_blocking': False,
    'ensemble': 'probabilities',
    'collect_device': 'gpu',
    'prefix': 'test',
    # Loops and optimizer wrappers.
    'runner': FILLED_IN,
    'dataloader': FILLED_IN,
    'max_epochs': 2,
    'val_begin': 2,
    'val_interval': 2,
    'dynamic_intervals': [(2, 5)],
    'optimizer': lambda weights: torch.optim.SGD(weights, lr=0.5),
    'accumulative_counts': 2,
    'clip_grad': dict(max_norm=0.01),
    # Hooks.
    'interval': 2,
    'by_epoch': False,
    'save_optimizer': False,
    'save_param_scheduler': False,
    'out_dir': '{folder}/elsewhere',
    'max_keep_ckpts': 1,
    'save_last': beside(False, interval=-1),
    'save_best': 'main/top1',
    'rule': beside('greater', save_best='error', rule='less'),
    'greater_keys': beside(['error'], save_best='error', less_keys=['error']),
    'less_keys': beside(['main/top1'], save_best='main/top1'),
    'file_client_args': dict(backend='disk'),
    'filename_tmpl': 'number_{}.pth',
    'backend_args': dict(backend='local'),
    'published_keys': ['state_dict'],
    'save_begin': 2,
    'shares': (0.5,),
    ('LossContextHook', 'images'): 9,
    ('CheckpointHook', 'save_everything'): True,
    ('CompileHook', 'backend'): 'eager',
}
