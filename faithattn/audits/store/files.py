"""Files that are whole or not there, and on the disk once they are there."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

_numbers = itertools.count()
_waits: ContextVar[bool] = ContextVar("waits", default=True)
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}  # some network disks sync no folders
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def replace_file(target: Path, data: bytes, temporary: Path) -> None:
    """Writes a file by way of a temporary one, in place of what was there.

    Args:
        target: The file.
        data: What it holds then.
        temporary: Folder on the same disk, which nobody else cleans meanwhile.
    """
    with _written(data, temporary, target.name) as path:
        path.replace(target)
    sync_folder(target.parent)


def create_file(target: Path, data: bytes, temporary: Path) -> bool:
    """Writes a file unless there is one: of several who try, one succeeds.

    Returns:
        Whether the file is the one given here.
    """
    with _written(data, temporary, target.name) as path:
        try:
            os.link(path, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if target.exists():  # without links, the caller's lock has to do
                return False
            path.replace(target)
    sync_folder(target.parent)
    return True


def unused(temporary: Path, name: str) -> Path:
    """A path in the folder of temporary files that no one else uses."""
    return temporary / f"{name}.{os.getpid()}.{next(_numbers)}"


@contextmanager
def _written(data: bytes, temporary: Path, name: str) -> Iterator[Path]:
    """A temporary file on the disk, gone afterwards unless it was moved."""
    path = unused(temporary, name)
    try:
        with path.open("xb") as file:
            file.write(data)
            sync_file(file)
        yield path
    finally:
        with suppress(OSError):
            path.unlink()


@contextmanager
def fleeting() -> Iterator[None]:
    """Waits for no disk meanwhile: for folders that do not outlive this process."""
    before = _waits.set(False)
    try:
        yield
    finally:
        _waits.reset(before)


def sync_file(file: BinaryIO) -> None:
    """Waits until what was written is on the disk."""
    file.flush()
    if _waits.get():
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, where the system can do that."""
    if os.name == "nt" or not _waits.get():
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


def empty(folder: Path) -> None:
    """Removes what is in a folder, as far as possible: left-overs harm nobody."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()
