"""Locks that end with the process that took them, however it ends."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import fcntl

# Some disks of clusters have no locks, nor has Windows: there, that a worker runs once is up to
# the caller.
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


class Lock:
    """A file that one process at a time holds.

    Attributes:
        excludes: Whether it keeps others out; False where there are no locks.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = Lock.take(Path(folder, "lock"))
        ...     print(Lock.take(Path(folder, "lock")))
        ...     first.release()
        None
    """

    def __init__(self, file: FileIO, excludes: bool) -> None:
        self._file: FileIO | None = file
        self.excludes = excludes
        _held.add(self)

    @classmethod
    def take(cls, path: Path, *, wait: bool = False) -> Lock | None:
        """Takes the lock, with the name of this process in its file; None if another has it."""
        # Not truncated on opening: the file says who holds the lock.
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            excludes = _locked(file, wait)
            file.truncate(0)
            file.write(json.dumps({"host": socket.gethostname(), "process": os.getpid()}).encode())
        except BlockingIOError:
            file.close()
            return None
        except BaseException:
            file.close()
            raise
        return cls(file, excludes)

    def release(self) -> None:
        """Lets others take it; a second time, nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _locked(file: FileIO, wait: bool) -> bool:
    """Locks a file; False where that cannot be done."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def holder(path: Path) -> dict[str, Any]:
    """Host and process that took a lock last, as far as its file says so."""
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def is_local(path: Path) -> bool:
    """Whether the last to take a lock was on this machine."""
    return holder(path).get("host") == socket.gethostname()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Waits for a lock, and has it inside."""
    lock = Lock.take(path, wait=True)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _let_go() -> None:
    """In a forked child: the lock is its parent's, and must end with the parent."""
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
