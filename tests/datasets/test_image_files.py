"""Decoding files of one size: chunks equal the whole, errors name files, memory is known."""

import numpy as np
import pytest
from PIL import Image

from mmkdfuse.datasets import image_files
from mmkdfuse.datasets.image_files import ImageFiles, machine_memory, read_images

BYTES = 3 * 6 * 5  # of one image


@pytest.fixture
def paths(tmp_path):
    """Ten images 6x5 of random pixels."""
    rng = np.random.default_rng(0)
    found = []
    for k in range(10):
        found.append(tmp_path / f'{k}.png')
        Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(found[-1])
    return found


def test_whole(paths):
    images = read_images(paths)
    expected = [np.asarray(Image.open(path)).transpose(2, 0, 1) for path in paths]
    assert images.dtype == np.uint8 and np.array_equal(images, expected)


@pytest.mark.parametrize(
    ('size', 'lengths'),
    [
        (1, [1] * 10),  # never less than one image
        (4 * BYTES, [4, 4, 2]),
        (5 * BYTES - 1, [4, 4, 2]),
        (5 * BYTES, [5, 5]),
        (10**9, [10]),
    ],
)
@pytest.mark.parametrize('per_task', [1, 3])
@pytest.mark.parametrize('threads', [1, 4])
def test_chunks_are_the_whole(paths, monkeypatch, size, lengths, per_task, threads):
    monkeypatch.setattr(image_files, '_CHUNK_BYTES', size)
    monkeypatch.setattr(image_files, '_PER_TASK', per_task)
    files = ImageFiles(paths, threads=threads)
    assert files.shape == (10, 3, 6, 5) and files.nbytes == 10 * BYTES
    chunks = [chunk.copy() for chunk in files.chunks()]
    assert [len(chunk) for chunk in chunks] == lengths
    assert np.array_equal(np.concatenate(chunks), read_images(paths))


def test_resized_chunks(paths, monkeypatch):
    monkeypatch.setattr(image_files, '_CHUNK_BYTES', 100)
    Image.new('RGB', (31, 17), (1, 2, 3)).save(paths[7])
    files = ImageFiles(paths, resize=(4, 3))
    assert files.shape == (10, 3, 4, 3)
    images = np.concatenate([chunk.copy() for chunk in files.chunks()])
    assert images[7, :, 0, 0].tolist() == [1, 2, 3]
    assert np.array_equal(images, read_images(paths, (4, 3)))


def test_the_first_bad_file_is_named_in_any_chunk(paths, monkeypatch):
    monkeypatch.setattr(image_files, '_CHUNK_BYTES', 3 * BYTES)
    Image.new('RGB', (5, 7)).save(paths[7])
    paths[8].write_bytes(b'')
    chunks = ImageFiles(paths).chunks()
    next(chunks), next(chunks)
    with pytest.raises(ValueError, match=r'7\.png is 7x5 .*0\.png is 6x5'):
        next(chunks)
    paths[0].write_bytes(b'')
    with pytest.raises(ValueError, match=r'cannot read image .*0\.png'):
        ImageFiles(paths)


@pytest.mark.parametrize(
    ('texts', 'expected'),
    [((), 8192 * 3), (('max\n',), 8192 * 3), (('4096\n',), 4096), (('max\n', '512\n'), 512)],
)
def test_memory_is_that_of_the_container(tmp_path, monkeypatch, texts, expected):
    values = {'SC_PAGE_SIZE': 8192, 'SC_PHYS_PAGES': 3}
    monkeypatch.setattr(image_files.os, 'sysconf', values.get)
    files = [tmp_path / 'v2', tmp_path / 'v1']
    for file, text in zip(files, texts, strict=False):
        file.write_text(text)
    monkeypatch.setattr(image_files, '_MEMORY_LIMITS', files)
    assert machine_memory() == expected
