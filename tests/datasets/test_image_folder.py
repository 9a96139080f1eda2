"""Class folders: order, conversion, sizes, and one clear sentence for everything wrong."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import DefaultScope
from mmpretrain.datasets import CustomDataset
from PIL import Image
from torch.utils.data import DataLoader

from mmkdfuse.datasets import identity_collate, image_files, image_folder
from mmkdfuse.registry import DATASETS


def save(path, value=0, size=(8, 8), mode='RGB'):
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode in ('L', 'I;16') else (value,) * len(mode)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def root(tmp_path):
    """train/{bee,ant,cat}: 4 images each with values 10 * label + k; val: one each."""
    for label, name in enumerate(('ant', 'bee', 'cat')):
        for k in range(4):
            save(tmp_path / 'train' / name / f'{k}.png', 10 * label + k)
        save(tmp_path / 'val' / name / 'v.PNG', 100 + label)
    return tmp_path


def build(root, **kwargs):
    return DATASETS.build({'type': 'ImageFolder', 'data_root': str(root), **kwargs})


def test_order_labels_and_pixels(root):
    data = build(root)
    assert data.CLASSES == ('ant', 'bee', 'cat')
    assert data.get_gt_labels().tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.store.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert build(root, data_prefix='val').store.images[:, 2, 7, 7].tolist() == [100, 101, 102]


def test_classes_argument_orders_the_labels(root):
    data = build(root, classes=['cat', 'ant', 'bee'])
    assert data.__getitems__([0, 4, 8])['inputs'][:, 0, 0, 0].tolist() == [20, 0, 10]


def test_channel_order_and_orientation(tmp_path):
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    (tmp_path / 'train' / 'a').mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / 'train' / 'a' / 'x.png')
    assert torch.equal(build(tmp_path)[0]['inputs'], torch.from_numpy(pixels).permute(2, 0, 1))


def test_grey_and_transparent_images_become_rgb(root):
    save(root / 'train' / 'ant' / '4.png', 50, mode='L')
    save(root / 'train' / 'ant' / '5.png', 60, mode='RGBA')
    images = build(root).store.images
    assert images[4].unique().tolist() == [50] and images[5].unique().tolist() == [60]


def test_hidden_and_foreign_files_are_left_out_and_depth_is_not(root):
    (root / 'train' / 'ant' / 'notes.txt').write_text('x')
    (root / 'train' / 'ant' / '._0.png').write_text('x')
    (root / 'train' / '.git').mkdir()
    save(root / 'train' / 'bee' / 'deep' / 'er' / 'x.bmp', 77)
    data = build(root)
    assert len(data) == 13 and data.store.images[8].unique().tolist() == [77]


@pytest.mark.parametrize('resize, shape', [(4, (4, 4)), ((6, 5), (6, 5)), ([8, 8], (8, 8))])
def test_resize(root, resize, shape):
    save(root / 'train' / 'ant' / '9.png', 5, size=(31, 17))
    assert build(root, resize=resize).store.images.shape == (13, 3, *shape)


@pytest.mark.parametrize('resize', [0, (3,), (2, 2.5)])
def test_bad_resize(root, resize):
    with pytest.raises(ValueError, match='resize='):
        build(root, resize=resize)


def test_mixed_sizes_name_both_files(root):
    save(root / 'train' / 'cat' / '2.png', size=(9, 8))
    with pytest.raises(ValueError) as caught:
        build(root)
    message = str(caught.value)
    assert 'cat/2.png is 8x9' in message and 'ant/0.png is 8x8' in message
    assert 'resize=' in message and 'mmpretrain.CustomDataset' in message


@pytest.mark.parametrize('keep', [0, 40])
def test_corrupted_image_is_named(root, keep):
    path = root / 'train' / 'bee' / '1.png'
    Image.effect_noise((8, 8), 50).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r'cannot read image .*bee/1\.png'):
        build(root)


def test_deep_image_is_refused(root):
    save(root / 'train' / 'bee' / '1.png', 1000, mode='I;16')
    with pytest.raises(ValueError, match=r'bee/1\.png: mode I;16'):
        build(root)


def test_empty_class_folder_is_named(root):
    (root / 'train' / 'dog').mkdir()
    with pytest.raises(ValueError, match='class folder .*train/dog holds no image'):
        build(root)


def test_missing_folder_and_folder_without_classes(root):
    with pytest.raises(ValueError, match='test does not exist: check data_root'):
        build(root, data_prefix='test')
    save(root / 'flat' / 'x.png')
    with pytest.raises(ValueError, match='no class folders'):
        build(root, data_prefix='flat')


def test_class_lists_of_train_and_val_must_agree(root):
    os.rename(root / 'val' / 'bee', root / 'val' / 'wasp')
    with pytest.raises(ValueError, match=r"val differ .*lacks \['bee'\] and has also \['wasp'\]"):
        build(root, data_prefix='val')
    assert build(root, data_prefix='val', reference_prefix=None).CLASSES == ('ant', 'cat', 'wasp')


def test_wrong_class_lists_and_counts(root):
    with pytest.raises(ValueError, match=r"argument classes: it lacks \['dog'\]"):
        build(root, classes=['ant', 'bee', 'cat', 'dog'])
    with pytest.raises(ValueError, match=r"has also \['cat'\]"):
        build(root, classes=['ant', 'bee'])
    with pytest.raises(ValueError, match='twice'):
        build(root, classes=['ant', 'bee', 'cat', 'cat'])
    with pytest.raises(ValueError, match='list of class names'):
        build(root, classes='ant')
    with pytest.raises(ValueError, match='3 classes but num_classes=10'):
        build(root, num_classes=10)


@pytest.mark.parametrize('cache', [True, 'elsewhere'])
def test_cache_notices_changes(root, cache, monkeypatch):
    monkeypatch.chdir(root)
    first = build(root, cache=cache)
    assert os.listdir(root / ('.mmkdfuse_cache' if cache is True else cache))
    assert torch.equal(build(root, cache=cache).store.images, first.store.images)
    assert torch.equal(build(root).store.images, first.store.images)
    save(root / 'train' / 'bee' / '1.png', 200)
    os.utime(root / 'train' / 'bee' / '1.png', ns=(0, 12345))
    assert build(root, cache=cache).store.images[5].unique().tolist() == [200]
    (root / 'train' / 'bee' / '1.png').unlink()
    assert len(build(root, cache=cache)) == 11
    assert build(root, cache=cache, resize=4).store.images.shape == (11, 3, 4, 4)
    assert build(root, cache=cache).store.images.shape == (11, 3, 8, 8)


def test_cached_images_are_used_without_decoding(root):
    build(root, cache=True)
    target = root / 'train' / 'ant' / '0.png'
    stat = target.stat()
    target.write_bytes(b'x' * stat.st_size)
    os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert len(build(root, cache=True, subset=5)) == 5


@pytest.fixture
def memory(monkeypatch):
    """Sets the memory of the machine in bytes; 12 images of 8x8 take 2304."""

    def limit(size):
        for module in (image_files, image_folder):
            monkeypatch.setattr(module, 'machine_memory', lambda: size)

    return limit


def mapped(root):
    return str(root / '.mmkdfuse_cache') in Path('/proc/self/maps').read_text()


@pytest.mark.parametrize(
    ('size', 'processes', 'share', 'on_disk'),
    [
        (4608, 1, 0.5, False),  # just half of it
        (4607, 1, 0.5, True),
        (4608, 2, 0.5, True),  # every process has its own
        (4608, 2, 1.0, False),
        (10**12, 1, 0.0, True),
    ],
)
def test_images_that_memory_does_not_hold_are_mapped(
    root, memory, monkeypatch, size, processes, share, on_disk
):
    monkeypatch.setenv('LOCAL_WORLD_SIZE', str(processes))
    plain = build(root)
    memory(size)
    data = build(root, memory_share=share)
    assert (root / '.mmkdfuse_cache').exists() == mapped(root) == on_disk
    assert torch.equal(data.store.images, plain.store.images)
    assert torch.equal(data.store.labels, plain.store.labels)
    for key, value in plain.__getitems__([11, 0, 5]).items():
        assert torch.equal(data.__getitems__([11, 0, 5])[key], value)


def test_no_cache_and_more_images_than_memory(root, memory):
    memory(2303)
    with pytest.raises(ValueError, match='12 images of 8x8 need .*cache=True.*CustomDataset'):
        build(root, cache=False)
    assert len(build(root, cache=True)) == 12


@pytest.mark.parametrize('share', [-0.1, 1.5])
def test_bad_memory_share(root, share):
    with pytest.raises(ValueError, match='memory_share='):
        build(root, memory_share=share)


def test_a_folder_is_decoded_into_the_cache_chunk_by_chunk(tmp_path, monkeypatch):
    """Never more than a chunk in memory, and nothing decoded twice."""
    for k in range(40):
        save(tmp_path / 'train' / f'c{k % 2}' / f'{k:02}.png', k, size=(96, 96))
    image = 3 * 96 * 96
    monkeypatch.setattr(image_files, '_CHUNK_BYTES', 4 * image)
    plain = build(tmp_path, cache=False)
    tracemalloc.start()
    data = build(tmp_path, cache=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * image  # the buffer of 4, and one image of every thread
    assert torch.equal(data.store.images, plain.store.images)


@pytest.mark.filterwarnings('ignore:This process .* is multi-threaded')
def test_worker_processes_read_the_mapped_images(root):
    data = build(root, cache=True)
    loader = DataLoader(data, batch_size=5, num_workers=2, collate_fn=identity_collate)
    batches = list(loader)
    images = torch.cat([batch['inputs'] for batch in batches])
    assert torch.equal(images, build(root, cache=False).store.images)
    assert torch.cat([batch['labels'] for batch in batches]).tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_file_pipeline_of_mmpretrain_stays_usable(root):
    with DefaultScope.overwrite_default_scope('mmkdfuse'):
        data = ROOT_DATASETS.build(
            {
                'type': 'CustomDataset',
                'data_root': str(root),
                'data_prefix': 'train',
                'pipeline': [
                    {'type': 'LoadImageFromFile'},
                    {'type': 'RandomCrop', 'crop_size': 8, 'padding': 2},
                    {'type': 'PackInputs'},
                ],
            }
        )
    assert isinstance(data, CustomDataset)
    assert data[0]['inputs'].shape == (3, 8, 8) and len(data) == 12
