"""Downloading an archive, checking it, and unpacking it without leaving the target folder."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import stat
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from mmengine.logging import print_log

_CHUNK = 1 << 20
_TIMEOUT_S = 60


def md5_of(path: Path) -> str:
    """MD5 of a file as 32 hexadecimal digits."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, 'rb') as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _fetch(url: str, target: IO[bytes]) -> None:
    """Copy a URL into an open file, with a log line at every tenth of it."""
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
        total, done, told = int(response.headers.get('Content-Length') or 0), 0, 0
        while chunk := response.read(_CHUNK):
            target.write(chunk)
            done += len(chunk)
            if total and done * 10 // total > told:
                told = done * 10 // total
                print_log(f'{url}: {done >> 20} of {total >> 20} MiB', logger='current')


def download(url: str, path: Path, md5: str) -> None:
    """Download a file and give it its name only once its checksum is right.

    Raises:
        RuntimeError: The download failed, or its file has another checksum.
    """
    by_hand = f'on a machine without network access, copy {path.name} into {path.parent} by hand'
    print_log(f'Downloading {url} to {path.parent}', logger='current')
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=f'.{path.name}-', dir=path.parent)
        with os.fdopen(handle, 'wb') as file:
            _fetch(url, file)
        found = md5_of(Path(partial))
        if found != md5:
            raise RuntimeError(
                f'the file downloaded from {url} has MD5 {found}, not {md5}, and was not kept in '
                f'{path.parent}; try again, or {by_hand}'
            )
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise RuntimeError(
            f'cannot download {url} to {path.parent} ({error}); {by_hand}'
        ) from error
    finally:
        if partial is not None:
            Path(partial).unlink(missing_ok=True)


def _members(archive: Path) -> Iterator[tuple[str, bool, bool, IO[bytes] | None]]:
    """(name, is a folder, is a plain file, content) of every member of a zip or tar archive."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as bundle:
            for info in bundle.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                plain = kind in (0, stat.S_IFREG)
                if info.is_dir() or not plain:
                    yield info.filename, info.is_dir(), False, None
                else:
                    with bundle.open(info) as content:
                        yield info.filename, False, True, content
    else:
        with tarfile.open(archive) as tar:
            for member in tar:
                yield (
                    member.name,
                    member.isdir(),
                    member.isreg(),
                    tar.extractfile(member) if (member.isreg()) else None,
                )


def _safe_path(name: str) -> PurePosixPath | None:
    """The relative path a member may be written to; None where it would leave the folder."""
    path = PurePosixPath(name.replace('\\', '/'))
    if path.is_absolute() or '..' in path.parts or ':' in name or '\0' in name:
        return None
    return path


def extract(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive below a folder: plain files and folders only.

    Raises:
        RuntimeError: A member with an absolute path, a ``..``, or that is a link or a device.
    """
    for name, is_folder, is_file, content in _members(archive):
        path = _safe_path(name)
        if path is None or not (is_folder or is_file):
            what = 'leads out of the folder' if path is None else 'is a link or a special file'
            raise RuntimeError(f'{archive} is refused: its member {name!r} {what}')
        target = folder / path
        if is_folder:
            target.mkdir(parents=True, exist_ok=True)
        elif content is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, 'wb') as file:
                shutil.copyfileobj(content, file, _CHUNK)


def ensure_extracted(
    *, root: Path, folder: str, url: str, filename: str, md5: str, download_missing: bool
) -> Path:
    """The unpacked dataset ``root/folder``, from the archive ``root/filename`` or the network.

    The archive is checked before anything is unpacked, and the folder appears only when complete.

    Args:
        root: Folder of the data.
        folder: Name of the folder that the archive holds.
        url: Address of the archive.
        filename: Name of the archive.
        md5: Checksum of the archive.
        download_missing: Whether to use the network.

    Returns:
        ``root/folder``.

    Raises:
        RuntimeError: The data is missing and cannot be had, or the archive is damaged.
    """
    target, archive = root / folder, root / filename
    if target.is_dir():
        return target
    if archive.is_file() and (found := md5_of(archive)) != md5:
        raise RuntimeError(
            f'{archive} has MD5 {found}, not {md5}: delete it and download {url} again'
        )
    if not archive.is_file():
        if not download_missing:
            raise RuntimeError(
                f'{target} does not exist and download=False: set data_root to the folder that '
                f'holds {folder}, or copy {filename} from {url} into {root}'
            )
        download(url, archive, md5)
    scratch = Path(tempfile.mkdtemp(prefix=f'.{folder}-', dir=root))
    try:
        extract(archive, scratch)
        if not (scratch / folder).is_dir():
            raise RuntimeError(f'{archive} holds no folder {folder!r}')
        try:
            os.rename(scratch / folder, target)
        except OSError:
            # Another machine on a shared disk may have been first.
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target
