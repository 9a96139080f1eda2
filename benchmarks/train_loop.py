"""(b) What the training loop costs beside the step itself."""

import tempfile
import uuid
from collections.abc import Iterable

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from benchmarks.measure import Options, Row, Timing, alternate
from benchmarks.random_images import RandomImages
from mmkdfuse.engine.launch import load_config
from mmkdfuse.registry import MODELS

TITLE = 'an iteration of the Runner - a bare PyTorch loop'

BATCH, IMAGE_SIZE, NUM_CLASSES = 128, 8, 10
PAST = 80_000  # iterations of a run of 200 epochs on CIFAR
SGD = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4)


def measure(options: Options) -> list[Row]:
    """Times epochs of a tiny network with the default hooks, beside a loop without any."""
    iterations = 2 if options.short else 100
    data = RandomImages(BATCH * iterations, NUM_CLASSES, IMAGE_SIZE)
    rows = []
    for past in (0, PAST):
        bare = _Bare(data, options.device)
        timings = alternate(
            {
                'ready batches': bare.run_on_ready_batches,
                'loader': bare.run_with_loader,
                'runner': _started_runner(data, options.device, past).train_loop.run_epoch,
                'stock': _started_runner(
                    data, options.device, past, stock=True
                ).train_loop.run_epoch,
            },
            options,
        )
        after = f', after {past:,} iterations' if past else ''
        for contender, baseline, case, target in (
            ('runner', 'ready batches', 'Runner - bare loop over ready batches', '<= 0.25'),
            ('runner', 'loader', 'Runner - bare loop with the same data loader', None),
            ('stock', 'ready batches', "mmengine's loop and hooks - bare loop over ready ..", None),
        ):
            beyond = _difference(timings[contender], timings[baseline], iterations)
            details = {'low': beyond.low, 'high': beyond.high}
            for name in (contender, baseline):
                details[f'{name} ms'] = timings[name].milliseconds / iterations
            rows.append(
                Row(
                    f'{case}, {BATCH} images an iteration{after}',
                    beyond.milliseconds,
                    unit='ms',
                    target=target,
                    details=details,
                )
            )
    return rows


def _difference(ours: Timing, theirs: Timing, iterations: int) -> Timing:
    pairs = zip(ours.rounds, theirs.rounds, strict=True)
    return Timing.of([(a - b) / iterations for a, b in pairs], iterations)


@MODELS.register_module(name='BenchmarkNet')
class TinyNet(nn.Module):
    """Two convolutions on a few pixels, so that little but the loop is left."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.body = nn.Conv2d(8, 8, 1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps of two stages."""
        first = self.stem(images).relu()
        return first, self.body(first).relu()


def _model() -> nn.Module:
    preprocessor = dict(
        type='BatchPreprocessor',
        mean=[120.0] * 3,
        std=[60.0] * 3,
        crop_padding=1,
        flip_prob=0.5,
    )
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmkdfuse'):
        return MODELS.build(
            dict(
                type='Classifier',
                backbone=dict(type='BenchmarkNet'),
                num_classes=NUM_CLASSES,
                image_size=IMAGE_SIZE,
                data_preprocessor=preprocessor,
            )
        )


class _Bare:
    """The same model, preprocessor and optimizer step in a loop of five lines."""

    def __init__(self, data: RandomImages, device: str) -> None:
        self.model = _model().to(device).train()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), **{k: v for k, v in SGD.items() if k != 'type'}
        )
        self.loader = Runner.build_dataloader(_loader(data), seed=0)
        self.ready = list(self.loader)

    def run_on_ready_batches(self) -> None:
        self._run(self.ready)

    def run_with_loader(self) -> None:
        self._run(self.loader)

    def _run(self, batches: Iterable[dict]) -> None:
        for batch in batches:
            data = self.model.data_preprocessor(batch, True)
            loss = sum(self.model(**data, mode='loss').values())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


def _loader(data: RandomImages) -> dict:
    return dict(
        dataset=data,
        batch_size=BATCH,
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='identity_collate'),
        pin_memory=torch.cuda.is_available(),
    )


def _started_runner(data: RandomImages, device: str, past: int, stock: bool = False) -> Runner:
    """A Runner that has begun to train, with histories of ``past`` iterations.

    Args:
        data: Images of one epoch.
        device: Where to train.
        past: Length of every history.
        stock: Take mmengine's loop, hooks and optimizer wrapper.
    """
    hooks = dict(load_config('baseline/resnet18_cifar100').default_hooks)
    hooks['checkpoint'] = dict(type='CheckpointHook', interval=-1, save_last=False)
    prefix, loop = '', 'ResumableEpochTrainLoop'
    if stock:
        prefix, loop = 'mmengine.', 'EpochBasedTrainLoop'
        hooks = {k: hooks[k] for k in ('timer', 'logger', 'param_scheduler', 'checkpoint')}
        hooks['runtime_info'] = dict(type='mmengine.RuntimeInfoHook')
    runner = Runner(
        model=_model(),
        work_dir=tempfile.mkdtemp(),
        train_dataloader=_loader(data),
        train_cfg=dict(type=f'{prefix}{loop}', max_epochs=10**6),
        optim_wrapper=dict(type=f'{prefix}OptimWrapper', optimizer=SGD),
        param_scheduler=[dict(type='CosineAnnealingLR', T_max=10**6, by_epoch=False)],
        default_hooks=hooks,
        default_scope='mmkdfuse',
        log_level='WARNING',
        experiment_name=f'benchmark_{uuid.uuid4().hex}',
        randomness=dict(seed=0),
    )
    runner.model.to(device)
    # As Runner.train does, but for running the loop.
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    runner.call_hook('before_run')
    if past:
        keys = [f'train/{k}' for k in ('lr', 'data_time', 'time', 'loss', 'loss_ce_main')]
        histories = {key: HistoryBuffer(np.ones(past), np.ones(past, int)) for key in keys}
        resumed = dict.fromkeys(keys, True)
        runner.message_hub.load_state_dict(
            dict(log_scalars=histories, runtime_info={}, resumed_keys=resumed)
        )
    runner.optim_wrapper.initialize_count_status(runner.model, 0, runner.max_iters)
    runner.call_hook('before_train')
    return runner
