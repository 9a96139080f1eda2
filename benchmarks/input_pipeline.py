"""(a) Batches ready for the network, beside slicing alone and beside mmpretrain's pipeline."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import cycle

import mmengine.dataset  # noqa: F401  (registers samplers and collate functions)
import mmpretrain.datasets
import mmpretrain.models
import torch
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import Call, Options, Row, Timing, alternate, ratio
from benchmarks.random_images import RandomImages
from mmkdfuse.datasets.batch_preprocessor import BatchPreprocessor

TITLE = 'input: ours beside slicing alone, and beside the stock pipeline'

NORMALISE = dict(mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255])
PADDING, NUM_CLASSES = 4, 100
WORKERS = 2  # of the stock pipeline; ours never has any


class StockImages(mmpretrain.datasets.CIFAR10):
    """mmpretrain's CIFAR dataset over given images; only the reading of the files is replaced."""

    def __init__(self, source: RandomImages, **kwargs) -> None:
        self._source = source.store
        classes = self._source.classes
        super().__init__(data_root='unused', metainfo=dict(classes=classes), **kwargs)

    def load_data_list(self) -> list[dict]:
        """What CIFAR10 makes of its files: images (H, W, 3) and labels."""
        images = self._source.images.permute(0, 2, 3, 1).numpy()
        labels = self._source.labels.tolist()
        return [dict(img=i, gt_label=label) for i, label in zip(images, labels, strict=True)]


def measure(options: Options) -> list[Row]:
    """Times batches of random images at the size of CIFAR and of Tiny-ImageNet."""
    batch = 16 if options.short else 128
    rows = []
    for size, images in ((32, 100 * batch), (64, 25 * batch)):  # alike in bytes
        source = RandomImages(images, NUM_CLASSES, size)
        shape = f'{batch} x {size}x{size}'
        rows += _augmentation(source, batch, shape, options)
        rows += _pipelines(source, batch, shape, options)
    return rows


def _augmentation(source: RandomImages, batch: int, shape: str, options: Options) -> list[Row]:
    plain = _batches(source, batch, options, training=False)
    contenders = {
        'slice+normalise': plain,
        'crop+flip+normalise': _batches(source, batch, options),
        'channels-last': _batches(source, batch, options, channels_last=True),
        'DataSample per image': _batches(source, batch, options, as_data_samples=True),
    }
    timings = alternate(contenders, options)

    def row(contender: str, baseline: str, target: str | None = None) -> Row:
        case = f'{contender} / {baseline}, {shape}'
        return _with_rates(
            ratio(case, timings, contender, baseline, target), timings, batch, contender, baseline
        )

    return [
        row('crop+flip+normalise', 'slice+normalise', '<= 2.0'),
        row('channels-last', 'crop+flip+normalise'),
        row('DataSample per image', 'crop+flip+normalise'),
    ]


def _pipelines(source: RandomImages, batch: int, shape: str, options: Options) -> list[Row]:
    """Whole pipelines, data loader included, in this process."""
    stock = StockImages(
        source,
        pipeline=[
            dict(type='RandomCrop', crop_size=source.store.images.shape[-1], padding=PADDING),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ],
    )
    theirs = mmpretrain.models.ClsDataPreprocessor(**NORMALISE, to_rgb=False)
    theirs.to(options.device)
    ours = BatchPreprocessor(**NORMALISE, crop_padding=PADDING, flip_prob=0.5)
    ours.to(options.device)
    batches = _next(_loader(source, batch, dict(type='identity_collate')), ours)
    rows = []
    # Samples that come from another process are pickled one tensor after the other.
    for workers, targets in ((0, ('>= 8', '>= 30')), (WORKERS, (None, None))):
        stock_loader = partial(
            _loader, stock, batch, num_workers=workers, persistent_workers=workers > 0
        )
        contenders = {
            'ours': batches,
            'default_collate': _next(stock_loader(dict(type='default_collate')), theirs),
            'pseudo_collate': _next(stock_loader(None), theirs),  # what a bare Runner takes
        }
        timings = alternate(contenders, options, clock='wall' if workers else 'cpu')
        how = f', {workers} workers' if workers else ''
        for collate, target in zip(('default_collate', 'pseudo_collate'), targets, strict=True):
            case = f'stock with {collate}{how} / ours, {shape}'
            row = ratio(case, timings, collate, 'ours', target)
            rows.append(_with_rates(row, timings, batch, collate, 'ours'))
    return rows


def _batches(
    source: RandomImages, batch: int, options: Options, *, training: bool = True, **kwargs
) -> Call:
    """Returns a call that slices and preprocesses the next of many batches."""
    preprocessor = BatchPreprocessor(**NORMALISE, crop_padding=PADDING, flip_prob=0.5, **kwargs)
    preprocessor.to(options.device)
    positions = cycle([part.tolist() for part in torch.randperm(len(source)).split(batch)])
    return lambda: preprocessor(source.__getitems__(next(positions)), training)


def _loader(dataset: Dataset, batch: int, collate: dict | None, **kwargs) -> DataLoader:
    """The loader that the Runner builds from a config, by default without workers."""
    cfg = dict(
        dataset=dataset,
        batch_size=batch,
        drop_last=True,
        sampler=dict(type='DefaultSampler', shuffle=True),
        **kwargs,
    )
    if collate is not None:
        cfg['collate_fn'] = collate
    return Runner.build_dataloader(cfg, seed=0)


def _next(loader: DataLoader, preprocessor: Callable[..., dict]) -> Callable[[], Tensor]:
    """Returns a call that gives the inputs of the next batch, epoch after epoch."""

    def endless() -> Iterator[Tensor]:
        while True:
            for data in loader:
                yield preprocessor(data, True)['inputs']

    batches = endless()
    return lambda: next(batches)


def _with_rates(row: Row, timings: dict[str, Timing], batch: int, *names: str) -> Row:
    """The row with the images per second of its contenders."""
    rates = {f'{name} images/s': batch / timings[name].milliseconds * 1e3 for name in names}
    return replace(row, details={**row.details, **rates})
