"""Pairing of index, label and image through slicing, subsets, samplers and workers."""

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.registry import FUNCTIONS as ROOT_FUNCTIONS
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmkdfuse.datasets import ImageStore, StoreDataset, identity_collate
from mmkdfuse.datasets.batch_preprocessor import BatchPreprocessor
from mmkdfuse.registry import FUNCTIONS

CLASSES = ('a', 'b', 'c', 'd', 'e')


def arrays(n=200, side=6):
    """Images that tell their index in the first pixel and their label in the second."""
    images = np.random.default_rng(1).integers(0, 256, (n, 3, side, side), dtype=np.uint8)
    labels = np.arange(n) * 7 % 5
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(n), labels
    return images, labels


def dataset(n=200, **kwargs):
    return StoreDataset(classes=CLASSES, read=lambda: arrays(n), **kwargs)


def assert_paired(batch):
    assert torch.equal(batch['inputs'][:, 0, 0, 0].long(), batch['indices'])
    assert torch.equal(batch['inputs'][:, 0, 0, 1].long(), batch['labels'])
    assert torch.equal(batch['labels'], batch['indices'] * 7 % 5)


def loader(data, workers=0, shuffle=True, batch_size=32, **kwargs):
    return DataLoader(
        data,
        batch_size=batch_size,
        sampler=DefaultSampler(data, shuffle=shuffle, seed=3),
        collate_fn=identity_collate,
        num_workers=workers,
        **kwargs,
    )


def test_batch_has_the_agreed_types_and_order():
    batch = dataset().__getitems__([7, 3, 3])
    assert batch['inputs'].dtype == torch.uint8 and batch['inputs'].shape == (3, 3, 6, 6)
    assert batch['labels'].dtype == batch['indices'].dtype == torch.int64
    assert batch['indices'].tolist() == [7, 3, 3]
    assert_paired(batch)


def test_one_sample_and_its_bounds():
    data = dataset()
    sample = data[9]
    assert sample['inputs'].shape == (3, 6, 6) and int(sample['indices']) == 9
    assert int(data[-1]['indices']) == 199
    with pytest.raises(IndexError, match='200 images'):
        data[200]


def test_what_mmengine_and_mmpretrain_read_off_a_data_set():
    data = dataset(test_mode=True)
    assert data.metainfo == {'classes': CLASSES} and data.CLASSES == CLASSES
    assert data.num_classes == 5 and len(data) == data.full_length == 200 and data.test_mode
    assert np.array_equal(data.get_gt_labels(), arrays()[1])
    assert repr(data) == 'StoreDataset(200 images 3x6x6, 5 classes)'


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('subset', [None, 77])
def test_pairing_after_shuffle(workers, subset):
    data = dataset(subset=subset)
    seen = []
    for batch in loader(data, workers):
        assert_paired(batch)
        seen += batch['indices'].tolist()
    assert sorted(seen) == data.store.indices.tolist() and len(seen) == len(data)
    assert seen != sorted(seen)


def test_subset_is_fixed_and_keeps_the_numbers_of_the_full_set():
    first, again, other = (dataset(subset=50, subset_seed=s).store.indices for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(set(first.tolist())) == 50 and first.tolist() == sorted(first.tolist())
    assert first.max() > 60 and dataset(subset=50).full_length == 200


@pytest.mark.parametrize('size', [0, 201])
def test_subset_out_of_range(size):
    with pytest.raises(ValueError, match=rf'subset={size} .* 1\.\.200'):
        dataset(subset=size)


def test_augmented_epoch_is_the_same_for_any_workers_and_batches():
    preprocessor = BatchPreprocessor([1, 2, 3], [4, 5, 6], crop_padding=2, flip_prob=0.5, seed=0)

    def epoch(**kwargs):
        out = torch.empty(200, 3, 6, 6)
        for batch in loader(dataset(), **kwargs):
            done = preprocessor(batch, training=True)
            out[done['indices']] = done['inputs']
        return out

    reference = epoch(shuffle=False)
    assert torch.equal(epoch(workers=2, persistent_workers=True), reference)
    assert torch.equal(epoch(batch_size=17), reference)


def test_collate_is_found_by_the_runner_and_stacks_what_a_wrapper_split():
    assert FUNCTIONS.get('identity_collate') is identity_collate
    with DefaultScope.overwrite_default_scope('mmkdfuse'):
        assert ROOT_FUNCTIONS.get('identity_collate') is identity_collate
        built = Runner.build_dataloader(
            {
                'batch_size': 8,
                'num_workers': 0,
                'dataset': dataset(),
                'sampler': {'type': 'DefaultSampler', 'shuffle': True},
                'collate_fn': {'type': 'identity_collate'},
            },
            seed=0,
        )
    batch = next(iter(built))
    assert batch['inputs'].shape == (8, 3, 6, 6)
    assert_paired(batch)
    data = dataset()
    stacked = identity_collate([data[4], data[2]])
    direct = data.__getitems__([4, 2])
    assert all(torch.equal(stacked[key], direct[key]) for key in direct)


@pytest.mark.parametrize(
    'change, message',
    [
        ({'images': torch.zeros(4, 3, 2, 2)}, 'uint8'),
        ({'images': torch.zeros(4, 1, 2, 2).byte()}, r'\(4, 1, 2, 2\)'),
        ({'images': torch.zeros(0, 3, 2, 2).byte()}, 'not empty'),
        ({'labels': torch.zeros(3, dtype=torch.int64)}, r'int64 \(4,\)'),
        ({'labels': torch.tensor([0, 1, 2, 3])}, r'0\.\.3 but 3 classes allow 0\.\.2'),
        ({'labels': torch.tensor([0, -1, 2, 1])}, r'-1\.\.2'),
    ],
)
def test_store_refuses_what_does_not_fit(change, message):
    fields = {
        'images': torch.zeros(4, 3, 2, 2).byte(),
        'labels': torch.tensor([0, 1, 2, 0]),
        'indices': torch.arange(4),
        'classes': ('x', 'y', 'z'),
    }
    with pytest.raises(ValueError, match=message):
        ImageStore(**{**fields, **change})


def test_wrong_class_count_and_repeated_class():
    with pytest.raises(ValueError, match='5 classes but num_classes=6'):
        dataset(num_classes=6)
    with pytest.raises(ValueError, match='twice'):
        StoreDataset(classes=('a', 'a', 'b', 'c', 'd'), read=arrays)
    with pytest.raises(ValueError, match='no cache on disk'):
        dataset(cache='somewhere')
