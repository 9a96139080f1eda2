"""Crop and flip a whole batch at once, on the device where training happens.

The randomness of a sample is a function of (seed, epoch, dataset index) and of nothing else: a
counter-based hash in 64-bit integers, not a stateful generator. The number of workers or ranks, the
composition and order of batches, the device and a resume therefore leave it unchanged.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MUL1 = 0xBF58476D1CE4E5B9
_MUL2 = 0x94D049BB133111EB
_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes


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
        indices: Dataset indices, int64 (N,).
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


def windows_of(top: Tensor, left: Tensor, flip: Tensor, padding: int) -> Tensor:
    """Number of a window: ``(flip * side + top) * side + left``, side = 2*padding+1, int64 (N,).

    ``left`` is counted in the flipped image if there is a flip.
    """
    side = 2 * padding + 1
    return (flip * side + top) * side + torch.where(flip, 2 * padding - left, left)


@functools.lru_cache(maxsize=8)
def _starts(
    shape: torch.Size, padding: int, flips: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Starts of the runs: of every image (N,), and the offset by window (side**2 or twice)."""
    n, c, h, w = shape
    side = torch.arange(2 * padding + 1, device=device)
    later = (side[:, None] * w + side).flatten()
    if flips:
        later = torch.cat((later, later + n * c * h * w))
    return torch.arange(0, n * c * h * w, c * h * w, device=device), later


def _as_words(rows: Tensor) -> Tensor:
    """The memory of contiguous rows (.., L) as integers, the longest that fill a row."""
    length = rows.shape[-1] * rows.element_size()
    return rows.view(_WORDS[next(size for size in (8, 4, 2, 1) if length % size == 0)])


@functools.lru_cache(maxsize=8)
def _inside(
    h: int, w: int, padding: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Rows and columns of a window that show the image: all bits of a pixel are 1, else 0.

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
    batch's memory that begins a little earlier or later, so ``index_select`` copies N runs. Pixels
    from beyond the image's borders lie on the padding and are masked, eight bytes at a time. Mirror
    images stand behind the others and a flip picks the run from them: a per-image choice between
    two uint8 tensors with ``torch.where`` is several times slower.

    Args:
        images: (N, C, H, W), any dtype; no gradient flows back to them.
        windows: Their numbers, see :func:`windows_of`, int64 (N,).
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
        indices: Dataset indices of the images, int64 (N,), same device.
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
    windows = windows_of(*drawn, padding)
    return crop_flip(images, windows, padding=padding, flips=flip_prob > 0, pad_value=pad_value)
