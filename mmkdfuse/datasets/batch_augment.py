"""Crop, flip and normalise a whole uint8 batch at once, on the device where training happens.

The randomness of a sample is a function of (seed, epoch, data-set index) and of nothing else: a
counter-based hash in 64-bit integers, not a stateful generator. The number of workers or ranks, the
composition and order of batches, the device and a resume therefore leave it unchanged.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmkdfuse.registry import MODELS

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MUL1 = 0xBF58476D1CE4E5B9
_MUL2 = 0x94D049BB133111EB
_LARGEST_TABLE = 1 << 22  # draws of an epoch that are kept, 8 bytes each


def _signed(word: int) -> int:
    """The int64 with the same bits as an unsigned 64-bit word."""
    return word - (1 << 64) if word >> 63 else word


def _mix_int(word: int) -> int:
    """Finaliser of splitmix64 on one Python integer."""
    word = ((word ^ (word >> 30)) * _MUL1) & _WORD
    word = ((word ^ (word >> 27)) * _MUL2) & _WORD
    return word ^ (word >> 31)


def _mix_tensor(words: Tensor) -> Tensor:
    """:func:`_mix_int` on an int64 tensor; its products wrap alike on CPU and CUDA.

    ``>>`` copies the sign bit into int64, hence the masks. In place, because for a batch the time
    is that of the calls, not of the arithmetic; ``words`` itself is left alone.
    """
    words = (words >> 30).bitwise_and_((1 << 34) - 1).bitwise_xor_(words).mul_(_signed(_MUL1))
    words = (words >> 27).bitwise_and_((1 << 37) - 1).bitwise_xor_(words).mul_(_signed(_MUL2))
    return (words >> 31).bitwise_and_((1 << 33) - 1).bitwise_xor_(words)


def draw(
    indices: Tensor, *, seed: int, epoch: int, padding: int, flip_prob: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Crop offsets and flip decisions of samples, from splitmix64 of (seed, epoch, index).

    Args:
        indices: Data-set indices, int64 (N,).
        seed: Any integer.
        epoch: Epoch, or another counter of passes over the data.
        padding: Pixels added on every side; offsets are uniform in 0..2*padding.
        flip_prob: Probability of a flip, resolved to 2**-22.

    Returns:
        ``(top, left, flip)``: int64 (N,), int64 (N,), bool (N,).
    """
    key = _mix_int((_mix_int(seed & _WORD) + epoch) & _WORD)
    words = _mix_tensor((indices * _signed(_GOLDEN)).add_(_signed(key)))
    low = (1 << 21) - 1
    top = (words & low).mul_(2 * padding + 1) >> 21
    left = (words >> 21).bitwise_and_(low).mul_(2 * padding + 1) >> 21
    flip = (words >> 42).bitwise_and_((1 << 22) - 1) < round(flip_prob * (1 << 22))
    return top, left, flip


def _window(top: Tensor, left: Tensor, flip: Tensor, padding: int) -> Tensor:
    """Number of a window: ``(flip * side + top) * side + left``, side = 2*padding+1, int64 (N,).

    ``left`` is counted in the flipped image if there is a flip.
    """
    side = 2 * padding + 1
    return (flip * side + top) * side + torch.where(flip, 2 * padding - left, left)


@functools.lru_cache(maxsize=4)
def _epoch_windows(
    images: int, device: torch.device, seed: int, epoch: int, padding: int, flip_prob: float
) -> Tensor:
    """The windows of the first so many data-set indices in one epoch, int64 (images,)."""
    indices = torch.arange(images, device=device)
    drawn = draw(indices, seed=seed, epoch=epoch, padding=padding, flip_prob=flip_prob)
    return _window(*drawn, padding)


@functools.lru_cache(maxsize=8)
def _starts(
    shape: torch.Size, padding: int, flips: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Where runs begin: of every image (N,), and how much later by window (side**2 or twice)."""
    n, c, h, w = shape
    side = torch.arange(2 * padding + 1, device=device)
    later = (side[:, None] * w + side).flatten()
    if flips:
        later = torch.cat((later, later + n * c * h * w))
    return torch.arange(0, n * c * h * w, c * h * w, device=device), later


_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _as_words(rows: Tensor) -> Tensor:
    """The memory of contiguous rows (.., L) as integers, the longest that fill a row."""
    length = rows.shape[-1] * rows.element_size()
    return rows.view(_WORDS[next(size for size in (8, 4, 2, 1) if length % size == 0)])


@functools.lru_cache(maxsize=8)
def _inside(
    h: int, w: int, padding: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Which rows and columns of a window show the image: all bits of a pixel are 1, else 0.

    Returns:
        Masks by ``flip * side + top``, (2*side, words of a channel), and by ``left``, (side, words
        of a channel).
    """

    def masks(length: int) -> Tensor:
        axis = torch.full((length,), -1, dtype=_WORDS[dtype.itemsize], device=device)
        return F.pad(axis, (padding, padding)).unfold(0, length, 1)

    rows = masks(h).repeat(2, 1)[:, :, None].expand(-1, h, w)
    columns = masks(w)[:, None, :].expand(-1, h, w)
    return _as_words(rows.flatten(1)), _as_words(columns.flatten(1))


@functools.lru_cache(maxsize=8)
def _pad_word(
    pad_value: int, dtype: torch.dtype, word: torch.dtype, device: torch.device
) -> Tensor:
    """Pixels of this value, as one integer, (1,)."""
    pixels = word.itemsize // dtype.itemsize
    return torch.full((pixels,), pad_value, dtype=dtype, device=device).view(word)


def crop_flip(
    images: Tensor, windows: Tensor, *, padding: int, flips: bool = True, pad_value: int = 0
) -> Tensor:
    """Pad every image, cut one window of the original size out of it or of its mirror image.

    Images are not padded. Shifted by whole rows and columns, an image is one contiguous run of the
    batch's memory that begins a little earlier or later, so ``index_select`` copies N runs; what a
    run takes from beyond its image's borders lies on the padding and is masked, eight bytes at
    a time. Mirror images stand behind the others and a flip picks the run from them: a per-image
    choice between two uint8 tensors with ``torch.where`` is several times slower.

    Args:
        images: (N, C, H, W), any dtype; no gradient flows back to them.
        windows: Their numbers, see :func:`_window`, int64 (N,).
        padding: Pixels added on every side.
        flips: Whether any window may be flipped.
        pad_value: Value of these pixels, on the scale of ``images``.

    Returns:
        (N, C, H, W), dtype of ``images``, contiguous.
    """
    if not len(images):
        return images
    n, c, h, w = images.shape
    size = c * h * w
    parts = [images.flatten()]
    if flips:
        parts.append(images.flip(3).flatten())
    # Room for the first and last run to begin earlier and end later than their images.
    margin = images.new_zeros(padding * (w + 1))
    memory = torch.cat((margin, *parts, margin))
    start, later = _starts(images.shape, padding, flips, images.device)
    start = start + later.index_select(0, windows)
    runs = memory.as_strided((len(memory) - size + 1, size), (1, 1)).index_select(0, start)
    if padding:
        side = 2 * padding + 1
        rows, columns = _inside(h, w, padding, images.dtype, images.device)
        inside = rows.index_select(0, windows // side)
        inside &= columns.index_select(0, windows % side)
        words = _as_words(runs.view(n, c, h * w))
        words.bitwise_and_(inside[:, None])
        if pad_value:
            pad = _pad_word(pad_value, images.dtype, words.dtype, images.device)
            words.bitwise_or_((~inside & pad)[:, None])
    return runs.view(n, c, h, w)


def augment(
    images: Tensor,
    indices: Tensor,
    *,
    seed: int,
    epoch: int,
    padding: int = 0,
    flip_prob: float = 0.0,
    pad_value: int = 0,
) -> Tensor:
    """Random crop with padding and random horizontal flip of a batch; no loop, no host sync.

    The same distribution as torchvision's ``RandomCrop(size, padding=padding)`` followed by
    ``RandomHorizontalFlip(flip_prob)`` on the raw image.

    Args:
        images: (N, C, H, W) on any device; no gradient flows back to them.
        indices: Data-set indices of the images, int64 (N,), same device.
        seed: Any integer.
        epoch: Epoch, or another counter of passes over the data.
        padding: Pixels added on every side before the crop.
        flip_prob: Probability of a flip in 0..1.
        pad_value: Value of the added pixels, on the scale of ``images``.

    Returns:
        (N, C, H, W) of the same dtype.
    """
    if padding == 0 and flip_prob == 0.0:
        return images
    drawn = draw(indices, seed=seed, epoch=epoch, padding=padding, flip_prob=flip_prob)
    windows = _window(*drawn, padding)
    return crop_flip(images, windows, padding=padding, flips=flip_prob > 0, pad_value=pad_value)


@MODELS.register_module()
class BatchPreprocessor(BaseDataPreprocessor):
    """Turns a sliced uint8 batch into the float batch a network takes, on the model's device.

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
        pad_value: Raw value of the added pixels, 0..255.
        seed: Seed of crop and flip. None takes the run's seed; give it when ranks have different
            seeds (``randomness=dict(diff_rank_seed=True)``).
        counter: What changes the draws between passes: ``'epoch'``, or ``'iter'`` for loops that
            count iterations only, where the epoch stays 0.
        as_data_samples: Give ``data_samples`` as a list of mmpretrain ``DataSample`` and leave out
            ``indices``, as mmpretrain's own classifiers need. Costs a Python object per image.
        channels_last: Give ``inputs`` in the channels-last memory format. Faster on GPUs with mixed
            precision and on most CPUs; off by default, because on CPUs with several threads torch
            2.14.1 crashes in the backward pass of a 1x1 stride-2 convolution of 8 channels.
        batch_augments: Must be None; ``ImageClassifier`` of mmpretrain passes its ``train_cfg``.
        non_blocking: Copy pinned memory to the device without waiting.

    Raises:
        ValueError: An argument out of its range, ``mean`` without ``std``, ``batch_augments``, a
            batch that is not uint8 (N, C, H, W), or training with random crops without indices.
        TypeError: A batch that was not sliced whole.
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
            on_host: The same as they came, perhaps on the CPU, where to read one waits for nothing.
        """
        if indices is None or on_host is None:
            raise ValueError(
                "the training batch has no 'indices' (int64 (N,)), which random crops and flips "
                'are drawn from: use a data set of mmkdfuse or set crop_padding=0, flip_prob=0'
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
        return _window(*drawn, padding)

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
                "'identity_collate') in the dataloader, or use ClsDataPreprocessor for a data set "
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
