"""The official layout in miniature, and everything that can be wrong with it."""

import hashlib
import os
import shutil
import zipfile

import pytest
import torch
from PIL import Image

from mmkdfuse.datasets import TinyImageNet

WNIDS = ('n03', 'n01', 'n02')


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (64, 64), (value,) * 3).save(path, format='PNG')


@pytest.fixture
def folder(tmp_path):
    """3 classes, 4 training and 2 validation images each; grey value = 10 * label + k."""
    folder = tmp_path / 'tiny-imagenet-200'
    annotations = []
    for label, wnid in enumerate(WNIDS):
        for k in range(4):
            save(folder / 'train' / wnid / 'images' / f'{wnid}_{k}.JPEG', 10 * label + k)
        (folder / 'train' / wnid / f'{wnid}_boxes.txt').write_text('x\t0\t0\t1\t1\n')
        for k in range(2):
            # Interleaved, as in the original: neighbours are of different classes.
            name = f'val_{3 * k + label}.JPEG'
            save(folder / 'val' / 'images' / name, 100 + 10 * label + k)
            annotations.append(f'{name}\t{wnid}\t0\t32\t44\t62\n')
    (folder / 'val' / 'val_annotations.txt').write_text(''.join(sorted(annotations)))
    (folder / 'wnids.txt').write_text('\n'.join(WNIDS) + '\n')
    return folder


def build(folder, split='val', per_class=None, **kwargs):
    per_class = per_class or {'train': 4, 'val': 2}[split]
    return TinyImageNet(
        **{
            'data_root': str(folder.parent),
            'split': split,
            'download': False,
            'num_classes': 3,
            'per_class': per_class,
            **kwargs,
        }
    )


def annotations(folder):
    return folder / 'val' / 'val_annotations.txt'


def test_labels_follow_wnids_and_annotations(folder):
    train, val = build(folder, 'train'), build(folder)
    assert train.CLASSES == val.CLASSES == WNIDS
    assert (len(train), len(val)) == (12, 6) and train.store.images.shape[1:] == (3, 64, 64)
    for data, base in ((train, 0), (val, 100)):
        grey = data.store.images[:, 0, 0, 0].long() - base
        assert torch.equal(grey // 10, data.store.labels)
    assert val.get_gt_labels().tolist() == [0, 0, 1, 1, 2, 2]


def test_official_counts_are_the_default(folder):
    with pytest.raises(ValueError, match='names 3 classes, not 200'):
        TinyImageNet(str(folder.parent), split='val', download=False)
    for split, count in (('val', 50), ('train', 500)):
        with pytest.raises(ValueError, match=rf'n03 .* {split} images, not {count}'):
            TinyImageNet(str(folder.parent), split=split, download=False, num_classes=3)


def test_one_missing_training_image(folder):
    (folder / 'train' / 'n01' / 'images' / 'n01_2.JPEG').unlink()
    with pytest.raises(ValueError, match='class n01 of .* has 3 train images, not 4'):
        build(folder, 'train')


def test_missing_training_class(folder):
    shutil.rmtree(folder / 'train' / 'n02')
    with pytest.raises(ValueError, match=r"lacks the class folders \['n02'\]"):
        build(folder, 'train')


def test_missing_annotation_file(folder):
    annotations(folder).unlink()
    with pytest.raises(ValueError, match=r'cannot read .*val_annotations\.txt.*official layout'):
        build(folder)


def test_missing_annotation_line(folder):
    lines = annotations(folder).read_text().splitlines()
    annotations(folder).write_text('\n'.join(lines[1:]))
    with pytest.raises(ValueError, match='class n03 .* has 1 val images, not 2'):
        build(folder)


@pytest.mark.parametrize(
    'line, message',
    [
        ('val_0.JPEG\tn01', 'names val_0.JPEG twice'),
        ('val_9.JPEG\tn77', 'without a class'),
        ('x', 'x'),
    ],
)
def test_contradictory_annotations(folder, line, message):
    with annotations(folder).open('a') as file:
        file.write(line + '\n')
    with pytest.raises(ValueError, match=message):
        build(folder)


def test_annotated_image_that_is_not_there(folder):
    (folder / 'val' / 'images' / 'val_4.JPEG').unlink()
    with pytest.raises(ValueError, match=r'cannot read image .*val_4\.JPEG'):
        build(folder)


def test_cache(folder):
    first = build(folder, 'train', cache=True)
    again = build(folder, 'train', cache=True)
    assert torch.equal(first.store.images, again.store.images)
    assert len([*(folder.parent / '.mmkdfuse_cache').glob('[!.]*')]) == 1


def test_archive_is_checked_unpacked_and_read(folder, tmp_path, monkeypatch):
    archive = tmp_path / 'fresh' / 'tiny-imagenet-200.zip'
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, 'w') as bundle:
        for path in sorted(folder.rglob('*')):
            bundle.write(path, path.relative_to(tmp_path))
    arguments = {'data_root': str(archive.parent)}
    with pytest.raises(RuntimeError, match='not 90528d7ca1a48142e341f4ef8d21d0de'):
        build(folder, **arguments)
    assert os.listdir(archive.parent) == [archive.name]
    monkeypatch.setattr(TinyImageNet, 'md5', hashlib.md5(archive.read_bytes()).hexdigest())
    assert torch.equal(build(folder, **arguments).store.images, build(folder).store.images)


def test_unknown_split_and_absent_data(tmp_path):
    with pytest.raises(ValueError, match='test has no labels'):
        TinyImageNet(str(tmp_path), split='test')
    with pytest.raises(RuntimeError, match=r'copy tiny-imagenet-200\.zip from http'):
        TinyImageNet(str(tmp_path), download=False)
