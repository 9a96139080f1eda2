"""(g) A pass over the validation set beside the networks' arithmetic."""

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor

from benchmarks.measure import Options, Row, Timing, alternate, ratio
from benchmarks.random_images import random_images
from mmkdfuse.engine.launch import load_config
from mmkdfuse.structures import NetworkOutput

TITLE = 'validation / forward passes by themselves'

KFMSD = 'kfmsd/resnet18_cifar100'
MFAKD = 'mfakd/resnet32x4_resnet8x4_cifar100'
NUM_CLASSES = 100
NARROW = {'model.backbone': dict(_delete_=True, arch='resnet18', base_channels=4, stem_channels=4)}


def measure(options: Options) -> list[Row]:
    """Times validation of KFMSD and MFAKD, through mmengine's loop, on images in memory."""
    batch = 16 if options.short else 128
    return [
        *_all_heads(options, batch, NARROW if options.short else {}),
        _python_per_image(options),
        *_student(options, batch),
    ]


class Validation:
    """The validation loop of a config on random images, and its network by itself.

    Args:
        config: Name of a shipped config.
        images: Number of images, one batch.
        options: Where to run.
        changes: To the config, with dotted keys.
    """

    def __init__(
        self, config: str, images: int, options: Options, changes: dict[str, Any] | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        cfg = load_config(
            config,
            {
                'val_dataloader.dataset': random_images(images, NUM_CLASSES),
                'val_dataloader.batch_size': images,
                'default_hooks.checkpoint': None,  # nothing is saved
                'log_level': 'WARNING',
                **(changes or {}),
            },
            work_dir=self._folder.name,
            experiment_name=f'benchmark_{id(self)}',
        )
        self._runner = Runner.from_cfg(cfg)
        self.model: Any = self._runner.model.to(options.device).eval()
        self.loop = self._runner.val_loop
        (data,) = self.loop.dataloader
        self.images: Tensor = self.model.data_preprocessor(data)['inputs']

    def run(self) -> dict:
        """Slices, normalises, runs, scores and logs the batch."""
        return self.loop.run()

    def run_network(self, images: Tensor) -> NetworkOutput:
        """Runs the network, all its heads, without the predictions that are made of them."""
        return self.model.run(images, self.model.all_logits)

    def by_itself(self, call: Callable[..., object], *inputs: Any) -> Callable[[], object]:
        """Returns a call without gradients."""

        @torch.no_grad()
        def forward() -> object:
            return call(*inputs)

        return forward


def _all_heads(options: Options, batch: int, changes: dict[str, Any]) -> list[Row]:
    kfmsd = Validation(KFMSD, batch, options, changes)
    model = kfmsd.model
    stages = kfmsd.by_itself(model.backbone, kfmsd.images)()
    timings = alternate(
        {
            'validation': kfmsd.run,
            'network': kfmsd.by_itself(model.deployed(), kfmsd.images),
            'branches': kfmsd.by_itself(_run_branches, model, stages),
        },
        options,
    )
    timings['network + branches'] = _sum(timings['network'], timings['branches'])
    return [
        ratio(
            f'KFMSD validation, all heads + ensemble / network + branches, {batch} images',
            timings,
            'validation',
            'network + branches',
            target='<= 1.1',
        ),
        ratio('KFMSD branches / network', timings, 'branches', 'network'),
    ]


def _run_branches(model: Any, stages: tuple[Tensor, ...]) -> list[Tensor]:
    """What branches and their classifiers compute, and the main network does not."""
    features = model.neck.branch_features(stages)
    return [classify(f) for classify, f in zip(model.head.branches, features, strict=True)]


def _python_per_image(options: Options) -> Row:
    """What a validation does beside arithmetic; on a network so small that little else is left."""
    batch = 16 if options.short else 500
    kfmsd = Validation(KFMSD, batch, options, NARROW)
    contenders = {
        'validation': kfmsd.run,
        'forward pass': kfmsd.by_itself(kfmsd.run_network, kfmsd.images),
    }
    timings = alternate(contenders, options)
    case = f'KFMSD validation / forward pass, 4 channels, {batch} images'
    row = ratio(case, timings, *contenders)
    validation, forward = (timings[name].milliseconds for name in contenders)
    row.details['difference per image in us'] = (validation - forward) / batch * 1e3
    return row


def _student(options: Options, batch: int) -> list[Row]:
    mfakd = Validation(MFAKD, batch, options)
    (teacher,) = mfakd.model.teachers
    calls = []
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: calls.append(module))
        for module in teacher.modules()
    ]
    mfakd.run()
    for hook in hooks:
        hook.remove()
    timings = alternate(
        {
            'validation': mfakd.run,
            'student + connector': mfakd.by_itself(mfakd.run_network, mfakd.images),
            'teacher': mfakd.by_itself(teacher, mfakd.images),
        },
        options,
    )
    return [
        Row(
            "calls of the teacher's layers in a validation of MFAKD",
            len(calls),
            unit='calls',
            target='== 0',
        ),
        ratio(
            f'MFAKD validation / student + connector + classifier, {batch} images',
            timings,
            'validation',
            'student + connector',
            target='<= 1.1',
        ),
        ratio('MFAKD validation / teacher', timings, 'validation', 'teacher'),
    ]


def _sum(first: Timing, second: Timing) -> Timing:
    rounds = [a + b for a, b in zip(first.rounds, second.rounds, strict=True)]
    return Timing.of(rounds, 1)
