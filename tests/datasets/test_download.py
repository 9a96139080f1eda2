"""Archives: checked before use, unpacked only into their folder, errors that say what to do."""

import hashlib
import io
import os
import stat
import tarfile
import zipfile

import pytest

from mmkdfuse.datasets.download import download, ensure_extracted, extract, md5_of


def zip_of(path, members):
    with zipfile.ZipFile(path, 'w') as bundle:
        for name, text in members.items():
            bundle.writestr(name, text)
    return path


def tar_of(path, *members):
    with tarfile.open(path, 'w:gz') as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def link(name, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, '/etc/passwd'
    return info


def arguments(root, archive, **change):
    return {
        'root': root,
        'folder': 'data',
        'url': archive.as_uri(),
        'filename': 'data.zip',
        'md5': md5_of(archive),
        'download_missing': True,
        **change,
    }


@pytest.fixture
def archive(tmp_path):
    (tmp_path / 'server').mkdir()
    return zip_of(tmp_path / 'server' / 'a.zip', {'data/x.txt': 'one', 'data/sub/y.txt': 'two'})


def test_md5(tmp_path):
    (tmp_path / 'f').write_bytes(b'abc')
    assert md5_of(tmp_path / 'f') == '900150983cd24fb0d6963f7d28e17f72'


def test_download_then_extract_then_nothing_more_to_do(tmp_path, archive):
    root = tmp_path / 'root'
    folder = ensure_extracted(**arguments(root, archive))
    assert (folder / 'sub' / 'y.txt').read_text() == 'two'
    assert sorted(os.listdir(root)) == ['data', 'data.zip']
    archive_arguments = arguments(root, archive, url='file:///nowhere')
    archive.unlink()
    assert ensure_extracted(**archive_arguments) == folder


def test_archive_put_there_by_hand_is_used(tmp_path, archive):
    root = tmp_path / 'root'
    root.mkdir()
    (root / 'data.zip').write_bytes(archive.read_bytes())
    folder = ensure_extracted(**arguments(root, archive, url='file:///x', download_missing=False))
    assert (folder / 'x.txt').read_text() == 'one'


def test_wrong_checksum_of_a_download_keeps_nothing(tmp_path, archive):
    wrong = hashlib.md5(b'other').hexdigest()
    with pytest.raises(RuntimeError, match=f'not {wrong}.*not kept'):
        ensure_extracted(**arguments(tmp_path / 'root', archive, md5=wrong))
    assert os.listdir(tmp_path / 'root') == []


def test_damaged_archive_is_named(tmp_path, archive):
    root = tmp_path / 'root'
    root.mkdir()
    (root / 'data.zip').write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(RuntimeError, match=r'data\.zip has MD5 .* delete it'):
        ensure_extracted(**arguments(root, archive))
    assert os.listdir(root) == ['data.zip']


def test_missing_without_download(tmp_path, archive):
    with pytest.raises(RuntimeError, match=r'download=False.*copy data\.zip from'):
        ensure_extracted(**arguments(tmp_path, archive, download_missing=False))


def test_download_error_says_where_and_what_to_do(tmp_path):
    url = (tmp_path / 'absent.zip').as_uri()
    target = tmp_path / 'root' / 'data.zip'
    with pytest.raises(RuntimeError) as caught:
        download(url, target, '0' * 32)
    message = str(caught.value)
    assert url in message and str(target.parent) in message and 'by hand' in message
    assert os.listdir(target.parent) == []


def test_archive_without_the_expected_folder(tmp_path, archive):
    with pytest.raises(RuntimeError, match="no folder 'other'"):
        ensure_extracted(**arguments(tmp_path / 'root', archive, folder='other'))
    assert os.listdir(tmp_path / 'root') == ['data.zip']


@pytest.mark.parametrize('name', ['../evil', 'data/../../evil', '/evil', '..\\evil', 'C:evil'])
def test_zip_member_that_leaves_the_folder_is_refused(tmp_path, name):
    target = tmp_path / 'in' / 'target'
    target.mkdir(parents=True)
    with pytest.raises(RuntimeError, match='leads out of the folder'):
        extract(zip_of(tmp_path / 'a.zip', {name: 'x'}), target)
    assert sorted(os.listdir(tmp_path)) == ['a.zip', 'in'] and os.listdir(target) == []


def test_zip_link_is_refused(tmp_path):
    info = zipfile.ZipInfo('data/link')
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as bundle:
        bundle.writestr(info, '/etc/passwd')
    with pytest.raises(RuntimeError, match="'data/link' is a link"):
        extract(tmp_path / 'a.zip', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'member',
    [
        (tarfile.TarInfo('../evil'), b'x'),
        (tarfile.TarInfo('/evil'), b'x'),
        (link('link', tarfile.SYMTYPE), b''),
        (link('hard', tarfile.LNKTYPE), b''),
        (link('fifo', tarfile.FIFOTYPE), b''),
    ],
)
def test_bad_tar_members_are_refused(tmp_path, member):
    archive = tar_of(tmp_path / 'a.tar.gz', member)
    with pytest.raises(RuntimeError, match='is refused'):
        extract(archive, tmp_path / 'in' / 'out')
    assert os.listdir(tmp_path) == ['a.tar.gz']


def test_tar_is_unpacked(tmp_path):
    archive = tar_of(tmp_path / 'a.tar.gz', (tarfile.TarInfo('data/x'), b'content'))
    extract(archive, tmp_path / 'out')
    assert (tmp_path / 'out' / 'data' / 'x').read_bytes() == b'content'
