"""Preprocessor of sliced uint8 batches: moved, cropped, flipped, normalised."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmkdfuse.datasets.batch_augment import crop_flip, draw, windows_of
from mmkdfuse.registry import MODELS

_LARGEST_TABLE = 1 << 22  # draws of an epoch that are kept, 8 bytes each


@functools.lru_cache(maxsize=4)
def _epoch_windows(
    images: int, device: torch.device, seed: int, epoch: int, padding: int, flip_prob: float
) -> Tensor:
    """The windows of the first so many dataset indices in one epoch, int64 (images,)."""
    indices = torch.arange(images, device=device)
    drawn = draw(indices, seed=seed, epoch=epoch, padding=padding, flip_prob=flip_prob)
    return windows_of(*drawn, padding)


@MODELS.register_module()
class BatchPreprocessor(BaseDataPreprocessor):
    """Preprocessor that turns a sliced uint8 batch into a network's input, on the model's device.

    In: ``{'inputs': uint8 (N, C, H, W), 'labels': int64 (N,), 'indices': int64 (N,)}``, the last
    two optional outside training. Out: ``{'inputs': float32 (N, C, H, W), 'data_samples': labels,
    'indices': indices}``. Crop and flip happen in training only; padding is on the raw image,
    before normalising.

    Epoch and, unless given here, seed are read from mmengine's message hub, where the Runner keeps
    them. Without a Runner both are 0.

    Args:
        mean: Per channel, on the 0..255 scale, in the order of the images' channels (RGB).
        std: Per channel, on the 0..255 scale.
        crop_padding: Pixels added on every side before a random crop of the original size.
        flip_prob: Probability of a horizontal flip, 0..1.
        pad_value: Raw value of the added pixels, 0..255; nothing without ``crop_padding``.
        seed: Seed of crop and flip. None takes the run's seed; give it when ranks have different
            seeds (``randomness=dict(diff_rank_seed=True)``).
        counter: Counter of the passes, with which the draws change: ``'epoch'``, or ``'iter'`` for
            loops that count iterations only, where the epoch stays 0.
        as_data_samples: Give ``data_samples`` as a list of mmpretrain ``DataSample`` and leave out
            ``indices``, as mmpretrain's own classifiers need. Costs a Python object per image.
        channels_last: Give ``inputs`` in the channels-last memory format. Faster on GPUs with mixed
            precision and on most CPUs. Off by default, because on CPUs with several threads torch
            2.14.1 crashes in the backward pass of a 1x1 stride-2 convolution of 8 channels.
        batch_augments: Must be None; ``ImageClassifier`` of mmpretrain passes its ``train_cfg``.
        non_blocking: Copy pinned memory to the device without waiting.

    Raises:
        ValueError: An argument out of its range, ``mean`` without ``std``, ``batch_augments``, a
            batch that is not uint8 (N, C, H, W), or training with random crops without indices.
        TypeError: A batch that was not sliced whole.

    Example:
        >>> preprocessor = BatchPreprocessor(mean=[127.5] * 3, std=[127.5] * 3)
        >>> batch = dict(inputs=torch.full((2, 3, 8, 8), 255, dtype=torch.uint8))
        >>> preprocessor(batch)['inputs'].unique()
        tensor([1.])
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        crop_padding: int = 0,
        flip_prob: float = 0.0,
        pad_value: int = 0,
        seed: int | None = None,
        counter: str = 'epoch',
        as_data_samples: bool = False,
        channels_last: bool = False,
        batch_augments: dict | None = None,
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        if (mean is None) != (std is None):
            raise ValueError(f'mean={mean} and std={std} must be given together')
        if mean is not None and std is not None:
            if len(mean) != len(std) or min(std) <= 0:
                raise ValueError(f'std={std} must hold {len(mean)} positive numbers, one per mean')
            scale = 1.0 / torch.tensor(std, dtype=torch.float64)
            shift = -torch.tensor(mean, dtype=torch.float64) * scale
            self.register_buffer('scale', scale.float().view(-1, 1, 1), persistent=False)
            self.register_buffer('shift', shift.float().view(-1, 1, 1), persistent=False)
        if not isinstance(crop_padding, int) or crop_padding < 0:
            raise ValueError(f'crop_padding={crop_padding} must be a whole number of pixels, >= 0')
        if not 0.0 <= flip_prob <= 1.0:
            raise ValueError(f'flip_prob={flip_prob} must lie in 0..1')
        if not isinstance(pad_value, int) or not 0 <= pad_value <= 255:
            raise ValueError(f'pad_value={pad_value} must be a whole number in 0..255 (raw pixels)')
        if counter not in ('epoch', 'iter'):
            raise ValueError(f"counter={counter!r} must be 'epoch' or 'iter'")
        if batch_augments is not None:
            raise ValueError(
                f'batch_augments={batch_augments} is not supported by BatchPreprocessor: remove '
                'train_cfg from the model or use ClsDataPreprocessor with a file pipeline'
            )
        self.normalises = mean is not None
        self.crop_padding = crop_padding
        self.flip_prob = flip_prob
        self.pad_value = pad_value
        self.seed = seed
        self.counter = counter
        self.as_data_samples = as_data_samples
        self.channels_last = channels_last

    def forward(self, data: dict, training: bool = False) -> dict:
        """Move, augment (in training) and normalise one batch; the class tells keys and shapes."""
        self._check(data)
        on_host = data.get('indices')
        data = self.cast_data(data)
        images, labels, indices = data['inputs'], data.get('labels'), data.get('indices')
        if training and (self.crop_padding or self.flip_prob):
            images = crop_flip(
                images,
                self._windows(indices, on_host),
                padding=self.crop_padding,
                flips=self.flip_prob > 0,
                pad_value=self.pad_value,
            )
        inputs = self._normalise(images)
        if self.as_data_samples:
            return {'inputs': inputs, 'data_samples': self._data_samples(labels, len(inputs))}
        return {'inputs': inputs, 'data_samples': labels, 'indices': indices}

    def _windows(self, indices: Tensor | None, on_host: Tensor | None) -> Tensor:
        """Windows of the images, by default looked up in a table that holds a whole epoch.

        For a batch the two dozen calls of :func:`draw` would take as long as to copy the images.

        Args:
            indices: On the device of the images.
            on_host: The same as they came, perhaps on the CPU, where reading one waits for nothing.
        """
        if indices is None or on_host is None:
            raise ValueError(
                "the training batch has no 'indices' (int64 (N,)), which random crops and flips "
                'are drawn from: use a dataset of mmkdfuse or set crop_padding=0, flip_prob=0'
            )
        hub = MessageHub.get_current_instance()
        seed = int((self.seed if self.seed is not None else hub.get_info('seed')) or 0)
        count = int(hub.get_info(self.counter, 0))
        padding, flip_prob = self.crop_padding, self.flip_prob
        if self.counter == 'epoch' and on_host.device.type == 'cpu' and len(on_host):
            size = 1 << int(on_host.max()).bit_length()  # 2**k for indices below 2**k
            if size <= _LARGEST_TABLE:
                table = _epoch_windows(size, indices.device, seed, count, padding, flip_prob)
                return table.index_select(0, indices)
        drawn = draw(indices, seed=seed, epoch=count, padding=padding, flip_prob=flip_prob)
        return windows_of(*drawn, padding)

    def _normalise(self, images: Tensor) -> Tensor:
        inputs = images.to(torch.float32, memory_format=torch.contiguous_format)
        if self.normalises:
            inputs.mul_(self.scale).add_(self.shift)
        # Converted last: on a CPU, arithmetic on channels-last memory is several times slower.
        return (
            inputs.contiguous(memory_format=torch.channels_last) if self.channels_last else inputs
        )

    @staticmethod
    def _check(data: dict) -> None:
        images = data.get('inputs') if isinstance(data, Mapping) else data
        if not isinstance(images, Tensor):
            raise TypeError(
                f'BatchPreprocessor takes a batch sliced whole, a dict with a uint8 tensor under '
                f"'inputs', not {type(images).__name__}: set collate_fn=dict(type="
                "'identity_collate') in the dataloader, or use ClsDataPreprocessor for a dataset "
                'that yields single samples'
            )
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(
                f"'inputs' must be uint8 (N, C, H, W), not {images.dtype} {tuple(images.shape)}"
            )
        for key in ('labels', 'indices'):
            values = data.get(key)
            if values is not None and len(values) != len(images):
                raise ValueError(f'the batch has {len(images)} images but {len(values)} {key}')

    @staticmethod
    def _data_samples(labels: Tensor | None, n: int) -> list:
        from mmpretrain.structures import DataSample

        if labels is None:
            return [DataSample() for _ in range(n)]
        return [DataSample().set_gt_label(label) for label in labels.view(-1, 1)]
