"""Class folders: order, conversion, sizes, and one clear sentence for everything wrong."""

import os

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import DefaultScope
from mmpretrain.datasets import CustomDataset
from PIL import Image

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


def test_more_images_than_memory(root, monkeypatch):
    monkeypatch.setattr(os, 'sysconf', lambda name: 10)
    with pytest.raises(ValueError, match='12 images of 8x8 need .*CustomDataset'):
        build(root)


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
