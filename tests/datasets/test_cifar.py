"""Official layout in miniature; nothing is unpickled before its checksum is right."""

import hashlib
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import DefaultScope
from mmpretrain import datasets as official_datasets

from mmkdfuse.datasets import CIFAR10, CIFAR100
from mmkdfuse.registry import DATASETS

MD5 = {
    name: dict(c.train_list + c.test_list)
    for name, c in (
        ('CIFAR10', official_datasets.CIFAR10),
        ('CIFAR100', official_datasets.CIFAR100),
    )
}


class Malicious:
    """A pickle that makes a file when loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def miniature(monkeypatch, root, name, keys, n=6, content=None):
    """Write a dataset in the official layout and make its checksums the expected ones."""
    official = getattr(official_datasets, name)
    folder = root / official.base_folder
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    written = {}
    for attribute in ('train_list', 'test_list'):
        entries = []
        for file, _ in getattr(official, attribute):
            data = generator.integers(0, 256, (n, 3072), dtype=np.uint8)
            labels = {key: generator.integers(0, 10, n).tolist() for key in keys}
            entry = {'data': data, 'filenames': ['x'] * n, **labels} if content is None else content
            raw = pickle.dumps(entry, protocol=4)
            (folder / file).write_bytes(raw)
            entries.append([file, hashlib.md5(raw).hexdigest()])
            written[file] = (data, labels)
        monkeypatch.setattr(official, attribute, entries)
    return folder, written


def test_shadow_mmpretrains_in_our_scope_only():
    with DefaultScope.overwrite_default_scope('mmkdfuse'):
        with ROOT_DATASETS.switch_scope_and_registry(None) as registry:
            assert registry.get('CIFAR10') is CIFAR10
            assert registry.get('MNIST') is official_datasets.MNIST
    assert DATASETS.get('CIFAR100') is CIFAR100
    assert DATASETS.get('mmpretrain.CIFAR10') is official_datasets.CIFAR10


def test_cifar10_content(monkeypatch, tmp_path):
    _, written = miniature(monkeypatch, tmp_path, 'CIFAR10', ['labels'])
    train = CIFAR10(str(tmp_path), download=False, num_classes=10)
    assert len(train) == 30 and train.metainfo['classes'][3] == 'cat'
    for k in range(5):
        data, labels = written[f'data_batch_{k + 1}']
        batch = train.__getitems__(list(range(6 * k, 6 * k + 6)))
        assert torch.equal(batch['inputs'], torch.from_numpy(data).view(-1, 3, 32, 32))
        assert batch['labels'].tolist() == labels['labels']
    test = CIFAR10(str(tmp_path), split='test', download=False)
    assert test.get_gt_labels().tolist() == written['test_batch'][1]['labels']


def test_cifar100_takes_the_fine_labels(monkeypatch, tmp_path):
    _, written = miniature(monkeypatch, tmp_path, 'CIFAR100', ['coarse_labels', 'fine_labels'])
    data = CIFAR100(str(tmp_path), split='test', download=False)
    assert data.get_gt_labels().tolist() == written['test'][1]['fine_labels']
    assert data.num_classes == 100


def test_cache_serves_the_same_and_sees_a_change(monkeypatch, tmp_path):
    folder, _ = miniature(monkeypatch, tmp_path, 'CIFAR10', ['labels'])
    arguments = {'data_root': str(tmp_path), 'download': False, 'cache': str(tmp_path / 'cache')}
    plain = CIFAR10(str(tmp_path), download=False)
    for _ in range(2):
        data = CIFAR10(**arguments)
        assert torch.equal(data.store.images, plain.store.images)
    (folder / 'data_batch_2').write_bytes(b'broken')
    with pytest.raises(RuntimeError, match='data_batch_2 has MD5'):
        CIFAR10(**arguments)


def test_wrong_checksum_unpickles_nothing(monkeypatch, tmp_path):
    trap = tmp_path / 'trap'
    folder, _ = miniature(monkeypatch, tmp_path, 'CIFAR10', ['labels'])
    raw = pickle.dumps(Malicious(trap))
    (folder / 'data_batch_1').write_bytes(raw)
    with pytest.raises(RuntimeError, match='data_batch_1 has MD5 .* delete the folder'):
        CIFAR10(str(tmp_path), download=False)
    assert not trap.exists()
    pickle.loads(raw)
    assert trap.exists()  # the trap works


def test_right_checksum_still_calls_nothing(monkeypatch, tmp_path):
    trap = tmp_path / 'trap'
    miniature(monkeypatch, tmp_path, 'CIFAR10', [], content=Malicious(trap))
    with pytest.raises(RuntimeError, match='posix.mkdir is not allowed'):
        CIFAR10(str(tmp_path), download=False)
    assert not trap.exists()


def test_missing_file_in_the_folder(monkeypatch, tmp_path):
    folder, _ = miniature(monkeypatch, tmp_path, 'CIFAR10', ['labels'])
    (folder / 'test_batch').unlink()
    with pytest.raises(RuntimeError, match='cannot read .*test_batch'):
        CIFAR10(str(tmp_path), split='test', download=False)


def test_archive_with_a_wrong_checksum_is_not_unpacked(monkeypatch, tmp_path):
    folder, _ = miniature(monkeypatch, tmp_path / 'make', 'CIFAR10', ['labels'])
    archive = tmp_path / 'data' / 'cifar-10-python.tar.gz'
    archive.parent.mkdir()
    with tarfile.open(archive, 'w:gz') as tar:
        tar.add(folder, folder.name)
    with pytest.raises(RuntimeError, match='not c58f30108f718f92721af3b95e74349a'):
        CIFAR10(str(archive.parent))
    assert os.listdir(archive.parent) == [archive.name]
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(official_datasets.CIFAR10, 'tgz_md5', md5)
    assert len(CIFAR10(str(archive.parent))) == 30


def test_absent_and_unknown_split(tmp_path):
    with pytest.raises(RuntimeError, match='download=False'):
        CIFAR100(str(tmp_path / 'none'), download=False)
    with pytest.raises(ValueError, match="split='val'"):
        CIFAR10(str(tmp_path), split='val')


def test_label_out_of_range(monkeypatch, tmp_path):
    content = {'data': np.zeros((2, 3072), np.uint8), 'labels': [0, 10]}
    miniature(monkeypatch, tmp_path, 'CIFAR10', [], content=content)
    with pytest.raises(ValueError, match='10 classes allow'):
        CIFAR10(str(tmp_path), download=False)


def test_checksums_are_mmpretrains():
    assert MD5['CIFAR10']['test_batch'] == '40351d587109b95175f43aff81a1287e'
    assert MD5['CIFAR100']['test'] == 'f0ef6b0ae62326f3e7ffdfab6717acfc'
