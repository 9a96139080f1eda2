"""Wrong values of a config end in one sentence that names key and value; valid ones are valid."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict

from mmkdfuse.engine.config_check import check_config
from mmkdfuse.engine.launch import load_config
from mmkdfuse.engine.preflight import ConfigError, preflight
from mmkdfuse.engine.value_check import describe, reason_against

ROOT = Path(__file__).resolve().parents[2]
NETWORK = dict(arch='resnet18', base_channels=4, stem_channels=4)
TEACHER = dict(arch='resnet18', base_channels=8, stem_channels=4)

# What Python and libraries say to programmers.
RAW = re.compile(
    r'not supported between|object is not|has no attribute|unexpected keyword|unsupported operand'
    r"|missing \d+ required|can't multiply|invalid literal|cannot convert|not iterable|not callable"
    r'|positional argument|not a mapping|must be a mapping|indices must be|division by zero'
    r'|(Type|Attribute|Key|Index|Assertion|ZeroDivision|Value|Runtime)Error|Traceback'
)


def changes(key, *values):
    return [{key: value} for value in values]


NUMBERS = ('abc', None, [1], float('nan'), float('inf'))
FLAGS = ('no', 'abc', 2, None, [True])
COUNTS = (0, -1, 1.5, 'abc', float('nan'))

WRONG = {
    'base': [
        *changes('optim_wrapper.optimizer.lr', -1, *NUMBERS),
        *changes('optim_wrapper.optimizer.momentum', -1, 'abc', float('nan')),
        *changes('optim_wrapper.optimizer.nesterov', *FLAGS[:2]),
        *changes('optim_wrapper.optimizer', 'abc', 5),
        *changes('optim_wrapper.clip_grad', 5, dict(max_norm=0), dict(max_norm='abc')),
        *changes('optim_wrapper.clip_grad', dict(max_norm=-1), dict(maxnorm=1), dict(type='foo')),
        *changes('optim_wrapper.accumulative_counts', 0, 'abc'),
        *changes('optim_wrapper.paramwise_cfg', 5, dict(norm_decay_mult='abc')),
        *changes('param_scheduler.0.start_factor', 0, 2, 'abc'),
        *changes('param_scheduler.0.convert_to_iter_based', 'abc'),
        *changes('param_scheduler.0.by_epoch', False),
        *changes('param_scheduler.0.begin', 5, -1),
        *changes('param_scheduler.1.T_max', 0, -1, 'abc'),
        *changes('param_scheduler.1.end', 'abc', -1),
        *changes('param_scheduler', 5, 'abc', [1, 2]),
        *changes('train_cfg.max_epochs', *COUNTS),
        *changes('train_cfg.val_interval', -1, 0, 'abc'),
        *changes('train_dataloader.batch_size', None, *COUNTS),
        *changes('train_dataloader.num_workers', -1, 'abc'),
        *changes('train_dataloader.persistent_workers', True, 'abc'),
        *changes('train_dataloader.prefetch_factor', 2),
        *changes('train_dataloader.drop_last', 'abc'),
        *changes('train_dataloader.dataset', None, 'abc'),
        *changes('train_dataloader.dataset.subset', 0, 'abc', 1.5),
        *changes('train_dataloader.sampler.shuffle', 'abc'),
        *changes('train_dataloader.sampler', 'abc'),
        *changes('default_hooks.checkpoint', 5, []),
        *changes('default_hooks.checkpoint.max_keep_ckpts', 'abc', -5),
        *changes('default_hooks.checkpoint.rule', 'foo'),
        *changes('default_hooks.checkpoint.intervall', 1),
        *changes('default_hooks.checkpoint.filename_tmpl', 'abc', '{}{}'),
        *changes('default_hooks.checkpoint.save_best', 5, True, []),
        *changes('default_hooks.checkpoint.by_epoch', 'abc'),
        *changes('default_hooks.checkpoint.save_begin', -1),
        *changes('default_hooks.logger.interval', 0, 'abc'),
        *changes('default_hooks.invalid_loss.interval', 0, float('nan')),
        *changes('default_hooks.timer.priority', 'FOO', 1000),
        *changes('val_evaluator.topk', 0, -1, 'abc', [], 1.5, [1, 1], [1, 50]),
        *changes('val_evaluator.collect_device', 'foo'),
        *changes('randomness.seed', 'abc', -1, 1.5, 10**20),
        *changes('randomness.deterministic', 'abc'),
        *changes('randomness', 'abc', None),
        *changes('env_cfg.mp_cfg.mp_start_method', 'foo'),
        *changes('env_cfg.dist_cfg.backend', 'foo'),
        *changes('auto_scale_lr', dict(base_batch_size=0), 5),
        *changes('log_level', 'FOO', 1.5),
        *changes('compile', 'abc'),
        *changes('resume', 'abc'),
        *changes('log_processor', dict(window_size=0), 'abc'),
        *changes('visualizer', 'abc'),
        *changes('custom_hooks', 5, [5]),
        *changes('default_scope', 'foo'),
        *changes('data_preprocessor.std', ['a', 'b', 'c'], 5, [0, 0, 0], [float('nan')] * 3),
        *changes('data_preprocessor.crop_padding', 1.5, 1000, -1),
        *changes('data_preprocessor.flip_prob', 'abc', 1.5),
        *changes('data_preprocessor.channels_last', 'abc'),
        *changes('data_preprocessor', None),
        *changes('model.num_classes', None, True, 9, *COUNTS),
        *changes('model.image_size', None, 'abc', 32.0, [32], 0),
        *changes('model.backbone', [1, 2], 'abc'),
        *changes('model.backbone.base_channels', 0, -4, 'abc'),
        *changes('model.backbone.norm_eval', 'no'),
        *changes('model.backbone.out_indices', [3, 2, 1, 0], [0, 0, 1], [0, 9], 'abc'),
        *changes('model', 'abc', [1, 2]),
    ],
    'kfmsd': [
        *changes('model.gamma', 2, -0.1, *NUMBERS),
        *changes('model.delta', -1, 1e308, *NUMBERS),
        *changes('model.mutual_loss', 'abc', [1, 2]),
        *changes('model.mutual_loss.tau', 0, *NUMBERS),
        *changes('model.mutual_loss.detach_target', *FLAGS),
        *changes('model.neck', 'abc', [1, 2], dict(share_modules='no'), dict(branches='abc')),
        *changes('model.losses', 5, [5]),
        *changes('model.branch_classes', 0, 'abc'),
    ],
    'kd': [
        *changes('model.kd_weight', -1, *NUMBERS),
        *changes('model.tau', 0, *NUMBERS),
        *changes('model.verify_teacher', 'abc'),
        *changes('model.teacher', None, [], 5, dict(TEACHER, checkpoint=5)),
        *changes('model.student', 5, 'resnett'),
        {'model.kd_weight': 0},
    ],
    'mfakd': [
        *changes('model.beta', -1, *NUMBERS),
        *changes('model.connector', 'abc', dict(reduction='abc'), dict(branches='sandglass')),
        *changes('model.connector', dict(reduction=1.5), dict(upsample=5)),
    ],
    'dml': [*changes('model.peers', 0, 1.5, 'abc'), *changes('model.tau', 0, *NUMBERS)],
}

# A warning in the report: valid, and perhaps not meant.
DOUBTFUL = {
    'model.image_size': (33, [32, 16]),
    'train_dataloader.batch_size': (1000,),
    'train_dataloader.dataset.subset': (3,),
    'val_dataloader.dataset.split': ('train',),
    'train_cfg.val_begin': (100,),
    'param_scheduler.1.eta_min': (5,),
    'param_scheduler.1.T_max': (200,),
    'param_scheduler.1.end': (9,),
    'param_scheduler.1': (dict(type='MultiStepLR', milestones=[1, 7]),),
    'optim_wrapper.optimizer.lr': (0,),
}

# No word, because the value makes sense.
SENSIBLE = {
    'default_hooks.progress': (None,),  # switches a hook off
    'default_hooks.timer': (None,),
    'default_hooks.checkpoint.interval': (-1,),  # upstream's word for never
    'default_hooks.checkpoint.max_keep_ckpts': (-1, np.int64(3)),  # all of them
    'default_hooks.checkpoint.save_best': (None, 'auto', ['accuracy/top1']),
    'train_cfg.val_interval': (100,),  # the last epoch is validated all the same
    'train_cfg.max_epochs': (2.0, np.int64(2)),  # upstream takes whole floats
    'train_dataloader.batch_size': (1, 63, np.int32(16)),
    'val_dataloader.dataset.subset': (1,),
    'randomness.seed': (None, 0, 2**32 - 1, np.int64(5)),
    'optim_wrapper.optimizer.lr': (1, np.float32(0.1)),
    'optim_wrapper.optimizer': (dict(_delete_=True, type='AdamW', lr=1e-3, betas=[0.9, 0.99]),),
    'optim_wrapper.clip_grad': (
        dict(max_norm=float('inf')),  # logs the norm only
        dict(max_norm=5, norm_type=float('inf')),
        ConfigDict(type='value', clip_value=1),
    ),
    'param_scheduler': ((dict(type='ConstantLR', factor=1, end=1),), None, []),
    'val_evaluator': (
        [dict(type='Accuracy', topk=1)],
        (dict(type='Accuracy', topk=[1, 2]),),
        ConfigDict(type='Accuracy', topk=(1,)),
    ),
    'data_preprocessor.mean': ((77, 77, 77), [np.float64(77)] * 3),
    'data_preprocessor.channels_last': (1, np.bool_(True)),
    'model.image_size': ((32, 32), np.int64(32)),
    'model.num_classes': (np.int64(10),),
    'model.backbone.out_indices': ((0, 1, 2, 3), [3]),
    'log_level': ('DEBUG', 10),
    'custom_hooks': ((), [dict(type='EMAHook', momentum=0.01)]),
}


@pytest.fixture(scope='module')
def configs(tmp_path_factory):
    """A tiny config of every method, on few digits."""
    from mmkdfuse import load

    base = Config.fromfile(ROOT / 'configs/quickstart/baseline_digits.py')
    base.merge_from_dict(
        {
            'model.backbone': NETWORK,
            'train_dataloader.batch_size': 16,
            'train_dataloader.dataset.subset': 64,
            'val_dataloader.dataset.subset': 32,
            'train_cfg.max_epochs': 2,
            'train_cfg.val_interval': 1,
            'optim_wrapper.optimizer.lr': 0.05,
            'param_scheduler': [
                dict(type='LinearLR', start_factor=0.1, end=1, convert_to_iter_based=True),
                dict(type='CosineAnnealingLR', begin=1, end=2, convert_to_iter_based=True),
            ],
            'work_dir': str(tmp_path_factory.mktemp('runs')),
        }
    )
    base.test_dataloader = base.val_dataloader
    checkpoint = str(tmp_path_factory.mktemp('teacher') / 'teacher.pth')
    weights = load(base, model=dict(backbone=TEACHER)).state_dict()
    torch.save(dict(state_dict=weights), checkpoint)
    pair = dict(student=NETWORK, teacher=dict(TEACHER, checkpoint=checkpoint), verify_teacher=False)
    models = dict(
        base=base.model,
        kfmsd=dict(type='KFMSD', backbone=NETWORK, mutual_loss=dict(tau=3.0)),
        kd=dict(type='KD', **pair),
        mfakd=dict(type='MFAKD', **pair),
        dml=dict(type='DML', backbone=NETWORK),
    )
    found = {}
    for name, model in models.items():
        cfg = Config(base.to_dict())
        cfg.model = {**dict(num_classes=10, image_size=32), **model}
        if name in ('kfmsd', 'dml'):
            cfg.val_evaluator = cfg.test_evaluator = dict(type='EnsembleAccuracy', topk=1)
            cfg.default_hooks.checkpoint.save_best = 'main/top1'
        found[name] = cfg
    return found


def report_on(cfg, options):
    """Sentences of the check, or its report."""
    try:
        return None, preflight(load_config(cfg, options), training=True)
    except ConfigError as error:
        return str(error), None


def label(case):
    text = ' '.join(f'{key}={value}' for key, value in case[1].items())
    return f'{case[0]}: {text}'


def written(value):
    """What of a value must stand in the sentence."""
    if isinstance(value, dict):
        return next((written(each) for each in reversed(value.values())), '')
    return str(value).strip('()[]')


CASES = [(method, case) for method, cases in WRONG.items() for case in cases]


@pytest.mark.parametrize(('method', 'options'), CASES, ids=map(label, CASES))
def test_a_wrong_value_is_one_sentence(configs, method, options):
    text, report = report_on(configs[method], options)
    assert text is not None, report
    assert not RAW.search(text), text
    for key, value in options.items():
        inner = list(value)[-1] if isinstance(value, dict) else key.rpartition('.')[2]
        assert inner in text, text
        assert written(value) in text, text
    assert len(text.splitlines()) <= 4, text


UNSURE = [{key: value} for key, values in DOUBTFUL.items() for value in values]


@pytest.mark.parametrize('options', UNSURE, ids=str)
def test_a_doubtful_value_is_a_warning(configs, options):
    text, report = report_on(configs['base'], options)
    assert text is None, text
    (key,) = options
    last = 'milestones' if isinstance(options[key], dict) else key.rpartition('.')[2]
    assert any(last in advice for advice in report.advice), report.advice
    assert 'warning: ' in str(report)


VALID = [{key: value} for key, values in SENSIBLE.items() for value in values]


@pytest.mark.parametrize('options', VALID, ids=str)
def test_a_sensible_value_is_not_refused(configs, options):
    text, report = report_on(configs['base'], options)
    assert text is None, text
    assert not report.advice


def test_a_run_without_any_term_is_refused(configs):
    none = [dict(type='ClassificationLoss', weight=0)]
    text, _ = report_on(configs['base'], {'model.losses': none})
    assert text.startswith('`model.losses[0].weight` = 0: no term of a loss is left')


def test_an_epoch_without_a_batch_is_refused(configs):
    options = {'train_dataloader.batch_size': 100, 'train_dataloader.drop_last': True}
    text, _ = report_on(configs['base'], options)
    assert text.startswith('`train_dataloader.batch_size` = 100: the 64 training images fill no')


def test_a_k_above_the_class_count_is_a_warning(configs):
    _, report = report_on(configs['kfmsd'], {'val_evaluator.topk': [1, 50]})
    assert any('topk` = [1, 50]: there are 10 classes' in advice for advice in report.advice)


def test_folders_that_cannot_be_written_are_named(configs, tmp_path):
    blocked = tmp_path / 'file'
    blocked.write_text('')
    for key in ('work_dir', 'default_hooks.checkpoint.out_dir'):
        text, _ = report_on(configs['base'], {key: str(blocked / 'below')})
        assert text.startswith(f'`{key}` = ') and 'cannot be written' in text
    assert list(tmp_path.iterdir()) == [blocked]


@pytest.mark.parametrize(
    ('options', 'mention'),
    [
        ({'param_scheduler.5.end': 2}, '`param_scheduler.5.end` = 2: cannot be merged'),
        ({'model..num_classes': 2}, '`model..num_classes` = 2: the key has an empty part'),
        ({'.model.num_classes': 2}, 'empty part'),
        ({'': 2}, 'empty part'),
    ],
)
def test_a_change_that_does_not_fit_is_named(configs, options, mention):
    with pytest.raises(ConfigError, match=re.escape(mention)):
        load_config(configs['base'], options)


@pytest.mark.parametrize(
    ('value', 'annotation', 'expected'),
    [
        ('abc', float, 'expected a number'),
        (True, int, 'expected an integer'),
        (1.5, int | None, 'expected an integer or None'),
        ('ab', list[str], 'expected a list of strings'),
        (float('inf'), float, 'expected a finite number'),
        ((1, 2, 3), tuple[int, int], 'expected a list of integers'),
        ({'a': 'b'}, dict[str, float], 'expected a dict of numbers'),
        (1, float, ''),
        (np.float32(1), float, ''),
        ([1, 2], tuple[int, int], ''),
        ((1, 2), list[int], ''),
        (Path('a'), str, ''),
        (ConfigDict(a=1), dict | None, ''),
    ],
)
def test_values_are_judged_by_annotations(value, annotation, expected):
    assert reason_against(value, annotation, strict=True) == expected


def test_annotations_of_others_are_taken_loosely():
    assert reason_against(2.0, int) == ''
    assert reason_against(float('inf'), float) == ''
    assert reason_against('abc', list[str]) == ''
    assert reason_against(None, int, default=None) == ''
    assert describe(int | list[int] | None) == 'an integer, a list of integers or None'


def test_types_of_many_values_are_told_together(configs):
    cfg = load_config(configs['kfmsd'], {'model.gamma': 'abc', 'model.delta': None})
    assert len(check_config(cfg)) == 2
