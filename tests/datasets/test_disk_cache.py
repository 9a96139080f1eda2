"""The cache on disk: equal content, noticed changes, no damage from broken entries."""

import os

import numpy as np
import pytest

from mmkdfuse.datasets.disk_cache import cache_name, cached, fingerprint


class Source:
    def __init__(self, value=1):
        self.value, self.calls = value, 0

    def __call__(self):
        self.calls += 1
        return np.full((4, 3, 2, 2), self.value, np.uint8), np.arange(4)


def test_second_use_reads_the_file(tmp_path):
    source = Source()
    first = cached(tmp_path / 'new' / 'folder', 'set', 'k', source)
    second = cached(tmp_path / 'new' / 'folder', 'set', 'k', source)
    assert source.calls == 1
    for images, labels in (first, second):
        assert isinstance(images, np.memmap) and (images == 1).all()
        assert labels.tolist() == [0, 1, 2, 3]


def test_writing_to_the_images_does_not_reach_the_file(tmp_path):
    images, _ = cached(tmp_path, 'set', 'k', Source())
    images[:] = 9
    assert (cached(tmp_path, 'set', 'k', Source(5))[0] == 1).all()


def test_another_key_replaces_the_entry_and_leaves_other_sets(tmp_path):
    cached(tmp_path, 'set', 'k1', Source(1))
    cached(tmp_path, 'other', 'k1', Source(2))
    assert (cached(tmp_path, 'set', 'k2', Source(3))[0] == 3).all()
    assert sorted(os.listdir(tmp_path)) == ['other-k1', 'set-k2']


@pytest.mark.parametrize('damage', ['truncate', 'remove', 'pickle'])
def test_broken_entry_is_built_again(tmp_path, damage):
    cached(tmp_path, 'set', 'k', Source(1))
    file = tmp_path / 'set-k' / 'images.npy'
    if damage == 'truncate':
        file.write_bytes(file.read_bytes()[:-5])
    elif damage == 'remove':
        file.unlink()
    else:
        np.save(file, np.array([{}] * 4, dtype=object), allow_pickle=True)
    source = Source(2)
    assert (cached(tmp_path, 'set', 'k', source)[0] == 2).all()
    assert (cached(tmp_path, 'set', 'k', source)[0] == 2).all() and source.calls == 1


def test_failed_build_leaves_nothing(tmp_path):
    def broken():
        raise ValueError('no image')

    with pytest.raises(ValueError, match='no image'):
        cached(tmp_path, 'set', 'k', broken)
    assert os.listdir(tmp_path) == []


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(RuntimeError, match='writable folder'):
        cached(tmp_path / 'file' / 'cache', 'set', 'k', Source())


def test_fingerprint_sees_name_size_and_time(tmp_path):
    file = tmp_path / 'a'
    file.write_text('xy')
    os.utime(file, ns=(0, 1000))
    before = fingerprint([file])
    assert before == fingerprint([file]) != fingerprint([file], 'option')
    os.utime(file, ns=(0, 2000))
    touched = fingerprint([file])
    file.write_text('xyz')
    os.utime(file, ns=(0, 2000))
    longer = fingerprint([file])
    renamed = fingerprint([file.rename(tmp_path / 'b')])
    assert len({before, touched, longer, renamed}) == 4


def test_names_tell_sources_apart(tmp_path):
    names = {
        cache_name('Set', 'train', tmp_path),
        cache_name('Set', 'val', tmp_path),
        cache_name('Set', 'train', tmp_path / 'other'),
        cache_name('Set', 'train', tmp_path, (8, 8)),
    }
    assert len(names) == 4
