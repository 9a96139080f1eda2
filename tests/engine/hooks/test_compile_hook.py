"""``compile`` in a config, with a backend of torch that traces and does not generate code."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook

from mmkdfuse import train
from mmkdfuse.checkpoint import load_file
from mmkdfuse.engine import CompileHook
from mmkdfuse.models import Classifier
from mmkdfuse.registry import HOOKS

TRACED = []


@torch._dynamo.register_backend
def counting_test_backend(graph, inputs):
    TRACED.append(len(graph.graph.nodes))
    return graph.forward


@HOOKS.register_module(name='CompileTestRecorder', force=True)
class Recorder(Hook):
    """Notes how often the backend was called when an epoch and a validation begin."""

    seen: list = []

    def before_train_epoch(self, runner):
        self.seen.append(('train', len(TRACED)))

    def before_val_epoch(self, runner):
        self.seen.append(('val', len(TRACED)))


@pytest.fixture
def method(request, tmp_path, tiny_backbone):
    """Changes of the quickstart's config that make it the method's."""
    if request.param == 'KFMSD':
        return {}
    path = tmp_path / 'teacher.pth'
    torch.save(Classifier(tiny_backbone, 10, 32).state_dict(), path)
    model = dict(
        _delete_=True,
        type='MFAKD',
        student=tiny_backbone,
        teacher={**tiny_backbone, 'checkpoint': str(path)},
        num_classes=10,
        image_size=32,
    )
    return dict(
        model=model,
        val_evaluator=dict(_delete_=True, type='Accuracy'),
        default_hooks=dict(checkpoint=dict(save_best='accuracy/top1')),
    )


@pytest.mark.slow
@pytest.mark.parametrize('method', ['KFMSD', 'MFAKD'], indirect=True)
def test_a_compiled_run_equals_an_uncompiled_one(method, tmp_path, tiny_options):
    options = {k: v for k, v in tiny_options.items() if not (method and 'backbone' in k)}
    states = []
    for name, more in (
        ('plain', {}),
        ('compiled', dict(compile=dict(backend='counting_test_backend'))),
    ):
        TRACED.clear()
        Recorder.seen = []
        train(
            'quickstart/kfmsd_digits',
            work_dir=tmp_path / name,
            preflight=False,
            cfg_options={
                **options,
                'custom_hooks': [dict(type='CompileTestRecorder')],
                # Steps so small that differences of rounding do not grow.
                'optim_wrapper.optimizer.lr': 1e-5,
            },
            **method,
            **more,
        )
        states.append(load_file(tmp_path / name / 'epoch_2.pth')['state_dict'])
    plain, compiled = states
    assert list(plain) == list(compiled)
    torch.testing.assert_close(plain, compiled, rtol=1e-4, atol=1e-5)
    assert sum(TRACED) > 100  # nodes
    stages, traced = zip(*Recorder.seen, strict=True)
    assert stages == ('train', 'val', 'train', 'val')
    # Traced in the first epoch only; neither the validation nor the next epoch traces anew.
    assert traced[0] == 0 < traced[1] == traced[3] == len(TRACED)


@pytest.mark.parametrize('compiled', [False, None])
def test_it_can_be_turned_off(compiled, tmp_path, tiny_options):
    TRACED.clear()
    train(
        'quickstart/kfmsd_digits',
        work_dir=tmp_path,
        preflight=False,
        cfg_options=tiny_options,
        compile=compiled,
    )
    assert TRACED == []


def test_validation_and_test_leave_the_stance_as_it_was():
    model, hook = torch.nn.Linear(1, 1), CompileHook()
    runner = SimpleNamespace(model=model, logger=logging.getLogger())
    compiled = torch.compile(lambda x: x + 1, backend='counting_test_backend')
    TRACED.clear()
    hook.before_val(runner)  # before any training nothing is compiled
    hook.after_val(runner)
    hook.before_train(runner)
    for before, after in (
        (hook.before_val, hook.after_val),
        (hook.before_test, hook.after_test),
        (hook.before_val, hook.train_stopped),
    ):
        before(runner)
        compiled(torch.ones(2))
        assert TRACED == []
        after(runner)
    compiled(torch.ones(2))
    assert TRACED
