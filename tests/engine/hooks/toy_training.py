"""A run that takes a second: the tests build it in their process, or start it as a script."""

import argparse
import os
import signal
import sys
import uuid

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

import mmkdfuse.registry  # noqa: F401

SAMPLES, BATCH = 20, 4  # five batches per epoch
EVERY_ITERATION = {'by_epoch': False, 'interval': 1, 'max_keep_ckpts': 1}


class ToyData(Dataset):
    metainfo = {'classes': ('a', 'b', 'c')}

    def __init__(self, samples=SAMPLES):
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(samples, 6, generator=generator)
        self.labels = torch.randint(0, 3, (samples,), generator=generator)
        self.loaded = []

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        self.loaded.append(index)
        # Random numbers drawn where the batch is made, as an augmentation of a data set would.
        noise = 0.1 * torch.randn(6)
        return {'inputs': self.inputs[index] + noise, 'labels': self.labels[index]}


class ToyModel(BaseModel):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.head = nn.Linear(8, 3)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)
        self.steps = 0
        self.bad_term = {}  # step, counted from 1 -> value of loss_x

    def forward(self, inputs, labels, mode='tensor'):
        logits = self.head(self.body(inputs))
        if mode == 'predict':
            return [{'correct': bool(c)} for c in logits.argmax(1) == labels]
        self.steps += 1
        loss = nn.functional.cross_entropy(logits, labels)
        extra = logits.square().mean() * self.bad_term.get(self.steps, 0.01)
        return {'loss_ce': loss, 'loss_x': extra}


class ToyAccuracy(BaseMetric):
    default_prefix = ''
    scripted: tuple = ()  # accuracies to report instead of the measured ones

    def process(self, data_batch, data_samples):
        self.results += [sample['correct'] for sample in data_samples]

    def compute_metrics(self, results):
        if self.scripted:
            value, *self.scripted = self.scripted
        else:
            value = sum(results) / len(results)
        return {'main/top1': value, 'error': 1 - value}


class ActAt(Hook):
    """Calls a function after one iteration, counted from 1."""

    priority = 'VERY_HIGH'

    def __init__(self, iteration, act):
        self.iteration, self.act = iteration, act

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            self.act()


def build_runner(
    work_dir,
    epochs=4,
    checkpoint=None,
    validate=True,
    hooks=(),
    scripted=(),
    optim_wrapper=None,
    seed=3,
    samples=SAMPLES,
    default_hooks=None,
    **kwargs,
):
    def loader(dataset, shuffle):
        return {
            'dataset': dataset,
            'batch_size': BATCH,
            'sampler': {'type': 'DefaultSampler', 'shuffle': shuffle},
            'collate_fn': {'type': 'default_collate'},
        }

    metric = ToyAccuracy()
    metric.scripted = tuple(scripted)
    validation = {
        'val_dataloader': loader(ToyData(), False),
        'val_evaluator': Evaluator(metric),
        'val_cfg': {'type': 'ValLoop'},
    }
    return Runner(
        model=ToyModel(),
        work_dir=str(work_dir),
        train_dataloader=loader(ToyData(samples), True),
        train_cfg={'type': 'ResumableEpochTrainLoop', 'max_epochs': epochs},
        optim_wrapper=optim_wrapper
        or {'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 1e-3}},
        param_scheduler=[
            {'type': 'MultiStepLR', 'milestones': [1, 3], 'gamma': 0.5},
            {'type': 'LinearLR', 'start_factor': 0.1, 'end': 7, 'by_epoch': False},
        ],
        default_hooks={
            'logger': {'type': 'LoggerHook', 'interval': 2},
            'checkpoint': {'type': 'CheckpointHook', 'interval': 1, **(checkpoint or {})},
            'invalid_loss': {'type': 'InvalidLossHook'},
            'interrupt': {'type': 'InterruptHook', 'interval': 1},
            'progress': {'type': 'ProgressHook'},
            **(default_hooks or {}),
        },
        custom_hooks=list(hooks),
        randomness={'seed': seed},
        default_scope='mmkdfuse',
        log_level='WARNING',
        experiment_name=f'toy_{uuid.uuid4().hex}',
        **(validation if validate else {}),
        **kwargs,
    )


def state_of(runner):
    """Everything that must be equal after a resume."""
    optimizer = runner.optim_wrapper.optimizer
    return {
        'weights': {k: v.clone() for k, v in runner.model.state_dict().items()},
        'momentum': [s['momentum_buffer'].clone() for s in optimizer.state.values()],
        'lr': [group['lr'] for group in optimizer.param_groups],
        'iter': runner.iter,
        'epoch': runner.epoch,
    }


def assert_same_state(a, b):
    torch.testing.assert_close(a['weights'], b['weights'], rtol=0, atol=0)
    torch.testing.assert_close(a['momentum'], b['momentum'], rtol=0, atol=0)
    assert {k: a[k] for k in ('lr', 'iter', 'epoch')} == {k: b[k] for k in ('lr', 'iter', 'epoch')}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('work_dir')
    parser.add_argument('--resume', action='store_true')
    parser.add_argument('--epochs', type=int, default=4)
    parser.add_argument('--every-iteration', action='store_true')
    parser.add_argument('--signal', nargs=2, metavar=('NAME', 'ITERATION'))
    parser.add_argument('--kill-in', nargs=2, metavar=('FUNCTION_OF_OS', 'CALL'))
    args = parser.parse_args()
    hooks, distributed = [], {}
    if 'RANK' in os.environ:
        torch.distributed.init_process_group('gloo')
        wrapper = {'type': 'MMDistributedDataParallel', 'device_ids': None}
        distributed = {
            'launcher': 'pytorch',
            'cfg': {'model_wrapper_cfg': {**wrapper, 'broadcast_buffers': False}},
        }
    if args.signal and os.environ.get('RANK', '1') == '1':
        number = signal.Signals[args.signal[0]]
        hooks.append(ActAt(int(args.signal[1]), lambda: os.kill(os.getpid(), number)))
    if args.kill_in:
        kill_in(args.kill_in[0], int(args.kill_in[1]))
    checkpoint = EVERY_ITERATION if args.every_iteration else {}
    build_runner(
        args.work_dir,
        args.epochs,
        checkpoint=checkpoint,
        hooks=hooks,
        resume=args.resume,
        **distributed,
    ).train()


def kill_in(function, call):
    """Die as by `kill -9` when a function of `os` is called for the n-th time."""
    original, calls = getattr(os, function), []

    def deadly(*args, **kwargs):
        calls.append(args)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(os, function, deadly)


if __name__ == '__main__':
    sys.exit(main())
