"""The cache on disk: equal content, noticed changes, bounded memory, broken entries."""

import os
import shutil
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from mmkdfuse.datasets.disk_cache import cache_name, cached, fingerprint
from mmkdfuse.datasets.image_store import ImageStore


class Source:
    def __init__(self, value=1):
        self.value, self.calls = value, 0

    def __call__(self):
        self.calls += 1
        return np.full((4, 3, 2, 2), self.value, np.uint8), np.arange(4)


class Chunked:
    """Image k is filled with k; comes in chunks of ``rows``, ``fail`` raises at that image."""

    def __init__(self, n, side=2, rows=3, fail=None):
        self.shape = (n, 3, side, side)
        self.rows, self.fail = rows, fail

    def chunks(self):
        buffer = np.empty((self.rows, *self.shape[1:]), np.uint8)
        for start in range(0, self.shape[0], self.rows):
            if self.fail is not None and start >= self.fail:
                raise KeyboardInterrupt
            chunk = buffer[: self.shape[0] - start]
            chunk[:] = np.arange(start, start + len(chunk)).reshape(-1, 1, 1, 1)
            yield chunk

    def __call__(self):
        return self, np.arange(self.shape[0])


def entries(folder):
    """What lies in a cache folder beside the locks."""
    return sorted(name for name in os.listdir(folder) if not name.endswith('.lock'))


def test_second_use_reads_the_file(tmp_path):
    source = Source()
    first = cached(tmp_path / 'new' / 'folder', 'set', 'k', source)
    second = cached(tmp_path / 'new' / 'folder', 'set', 'k', source)
    assert source.calls == 1
    for images, labels in (first, second):
        assert images.dtype == np.uint8 and (images == 1).all()
        assert labels.tolist() == [0, 1, 2, 3]
    assert str(tmp_path / 'new/folder/set-k/images.npy') in Path('/proc/self/maps').read_text()


def test_an_entry_is_a_plain_npy_file(tmp_path):
    cached(tmp_path, 'set', 'k', Chunked(5))
    images = np.load(tmp_path / 'set-k' / 'images.npy')
    assert images.shape == (5, 3, 2, 2) and images[:, 1, 1, 1].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize('n', [1, 3, 7, 9])
def test_chunks_give_what_one_array_gives(tmp_path, n):
    whole = np.repeat(np.arange(n, dtype=np.uint8), 12).reshape(n, 3, 2, 2)
    images, labels = cached(tmp_path, 'set', 'k', Chunked(n))
    assert np.array_equal(images, whole) and labels.tolist() == list(range(n))
    at_once, _ = cached(tmp_path, 'other', 'k', lambda: (whole, np.arange(n)))
    assert np.array_equal(at_once, whole)


def test_building_and_reading_hold_one_chunk(tmp_path):
    source = Chunked(200, side=128, rows=4)
    total, chunk = 200 * 3 * 128**2, 4 * 3 * 128**2
    tracemalloc.start()
    store = ImageStore.from_arrays(
        *cached(tmp_path, 'set', 'k', source), classes=[str(k) for k in range(200)]
    )
    batch = store.batch([5, 199, 0])['inputs']
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert batch[:, 2, 127, 127].tolist() == [5, 199, 0]
    assert peak < 2 * chunk < total / 20


def test_a_file_larger_than_memory_is_mapped(tmp_path):
    """Sparse on disk; a batch touches the pages of its images only."""
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    n = 2 * memory // (3 * 2**20) + 1
    (tmp_path / 'set-k').mkdir()
    with open(tmp_path / 'set-k' / 'images.npy', 'wb') as file:
        header = dict(descr='|u1', fortran_order=False, shape=(n, 3, 1024, 1024))
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + n * 3 * 2**20)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([7]))
    np.save(tmp_path / 'set-k' / 'labels.npy', np.zeros(n, np.int64))
    store = ImageStore.from_arrays(*cached(tmp_path, 'set', 'k', Source()), classes=['a'])
    batch = store.batch([n - 1, 0])['inputs']
    assert batch[:, 2, 1023, 1023].tolist() == [7, 0]


def test_writing_to_the_images_does_not_reach_the_file(tmp_path):
    images, _ = cached(tmp_path, 'set', 'k', Source())
    torch.from_numpy(images).fill_(9)
    assert (images == 9).all()
    assert (cached(tmp_path, 'set', 'k', Source(5))[0] == 1).all()


def test_another_key_replaces_the_entry_and_leaves_other_sets(tmp_path):
    cached(tmp_path, 'set', 'k1', Source(1))
    cached(tmp_path, 'other', 'k1', Source(2))
    assert (cached(tmp_path, 'set', 'k2', Source(3))[0] == 3).all()
    assert entries(tmp_path) == ['other-k1', 'set-k2']


def damage_file(entry, damage):
    file = entry / 'images.npy'
    if damage == 'truncate':
        file.write_bytes(file.read_bytes()[:-5])
    elif damage == 'only a header':
        file.write_bytes(file.read_bytes()[:128])
    elif damage == 'empty':
        file.write_bytes(b'')
    elif damage == 'noise':
        file.write_bytes(bytes(range(200)))
    elif damage == 'remove':
        file.unlink()
    elif damage == 'no labels':
        (entry / 'labels.npy').unlink()
    elif damage == 'labels of others':
        np.save(entry / 'labels.npy', np.arange(3))
    else:
        kinds = dict(pickle=np.array([{}] * 4, dtype=object), floats=np.zeros((4, 3, 2, 2)))
        kinds |= dict(flat=np.zeros(48, np.uint8))
        np.save(file, kinds[damage], allow_pickle=True)


@pytest.mark.parametrize(
    'damage',
    ['truncate', 'only a header', 'empty', 'noise', 'remove', 'no labels', 'labels of others']
    + ['pickle', 'floats', 'flat'],
)
def test_broken_entry_is_built_again(tmp_path, damage):
    cached(tmp_path, 'set', 'k', Source(1))
    damage_file(tmp_path / 'set-k', damage)
    source = Source(2)
    assert (cached(tmp_path, 'set', 'k', source)[0] == 2).all()
    assert (cached(tmp_path, 'set', 'k', source)[0] == 2).all() and source.calls == 1


def test_interrupted_build_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, 'set', 'k', Chunked(9, fail=6))
    assert entries(tmp_path) == []
    assert len(cached(tmp_path, 'set', 'k', Chunked(9))[0]) == 9


def test_what_a_killed_build_left_is_removed(tmp_path):
    (tmp_path / '.set-abcd').mkdir()
    (tmp_path / '.set-abcd' / 'images.npy').write_bytes(b'x' * 1000)
    (tmp_path / '.other-abcd').mkdir()
    cached(tmp_path, 'set', 'k', Source())
    assert entries(tmp_path) == ['.other-abcd', 'set-k']


def test_one_builds_while_others_wait(tmp_path):
    """As do several runs, or processes before they know of each other."""
    together, calls = threading.Barrier(3), []

    def build():
        calls.append(1)
        time.sleep(0.2)
        return Source(4)()

    def use():
        together.wait()
        return cached(tmp_path, 'set', 'k', build)[0].sum()

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(use) for _ in range(3)]
        assert [future.result() for future in futures] == [4 * 48] * 3
    assert len(calls) == 1


def test_a_full_disk_is_noticed_before_decoding(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(9, 9, 0))
    source = Chunked(9, fail=0)
    with pytest.raises(RuntimeError, match='GiB are needed and 0.0 GiB free.*writable folder'):
        cached(tmp_path, 'set', 'k', source)


def test_images_and_labels_that_do_not_fit(tmp_path):
    with pytest.raises(RuntimeError, match=r'\(4, 3, 2, 2\) images and \(3,\) labels'):
        cached(tmp_path, 'set', 'k', lambda: (Source()()[0], np.arange(3)))
    with pytest.raises(TypeError, match='safe'):
        cached(tmp_path, 'set', 'k', lambda: (np.zeros((4, 3, 2, 2)), np.arange(4)))
    assert len(cached(tmp_path, 'set', 'k', Source())[0]) == 4


def test_failed_build_leaves_nothing(tmp_path):
    def broken():
        raise ValueError('no image')

    with pytest.raises(ValueError, match='no image'):
        cached(tmp_path, 'set', 'k', broken)
    assert entries(tmp_path) == []


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
