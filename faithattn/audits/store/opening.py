"""How a worker comes to a folder: new, or begun by itself or by others."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from faithattn.audits.store.files import create_file, empty, sync_folder
from faithattn.audits.store.locks import Lock, held, holder, is_local
from faithattn.audits.store.manifest import Manifest
from faithattn.errors import AuditError

MANIFEST, PARTS, FAILED, LOCKS, TEMPORARY = "manifest.json", "parts", "failed", "locks", "temporary"
# What a folder may hold whose first worker was killed before it wrote the manifest.
_BEFORE_MANIFEST = {PARTS, FAILED, LOCKS, TEMPORARY}
_REMEDIES = {
    errno.ENOSPC: "Free space",
    errno.EDQUOT: "Free space",
    errno.EACCES: "Allow writing there",
    errno.EPERM: "Allow writing there",
    errno.EROFS: "Allow writing there",
}


class Worker(NamedTuple):
    """One of those who write into a folder.

    Attributes:
        lock: What keeps a second run of the same worker out.
        temporary: Where its files are until they are whole.
    """

    lock: Lock
    temporary: Path


def begin(root: Path, manifest: Manifest, name: str) -> Worker:
    """Makes the folder where there is none, and takes a worker's place in it."""
    known = manifest_of(root)
    _require_same(root, known, manifest)
    with saving(root):
        for folder in sorted(_BEFORE_MANIFEST):
            (root / folder).mkdir(parents=True, exist_ok=True)
        sync_folder(root)
        worker = _take_place(root, name)
    try:
        if known is None:
            data = json.dumps(manifest.to_dict(), indent=1).encode()
            with saving(root):
                created = create_file(root / MANIFEST, data, worker.temporary)
            if not created:
                _require_same(root, manifest_of(root), manifest)
    except BaseException:
        worker.lock.release()
        raise
    return worker


def manifest_of(root: Path) -> Manifest | None:
    """The manifest of a folder; None if the folder is new.

    Raises:
        AuditError: If there is something else.
    """
    values = read_json(root / MANIFEST)
    if values is not None:
        return Manifest.from_dict(values)
    try:
        names = {path.name for path in root.iterdir() if not path.name.startswith(".")}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AuditError(
            f"out must be a folder that can be read; got {root} ({error.strerror}). "
            "Give another one."
        ) from error
    foreign = sorted(names - _BEFORE_MANIFEST)
    if foreign:
        others = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise AuditError(
            f"out must be a new folder or one of an audit; got {root}, which holds "
            f"{foreign[0]!r}{others}. Give another one."
        )
    return None


def read_json(path: Path) -> Any:
    """What a file of JSON holds; None if there is no such file."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise AuditError(
            f"{path.name} must be readable JSON; got {path} ({error}). "
            "Restore it, or begin in a new folder."
        ) from error


@contextmanager
def saving(root: Path) -> Iterator[None]:
    """Says what is safe where something cannot be written."""
    try:
        yield
    except OSError as error:
        try:
            kept = sum(1 for _ in (root / PARTS).glob("*.npz"))
        except OSError:
            kept = 0
        remedy = _REMEDIES.get(error.errno or 0, "See to it")
        batches = "finished batch is" if kept == 1 else "finished batches are"
        raise AuditError(
            f"out must be a folder that can be written to; got {root}, where "
            f"{error.filename or 'a file'} cannot be written ({error.strerror or error}). "
            f"{kept} {batches} kept; {remedy[0].lower()}{remedy[1:]} and run the same command "
            "again."
        ) from error


def _require_same(root: Path, known: Manifest | None, manifest: Manifest) -> None:
    changes = known.difference(manifest) if known is not None else []
    if changes:
        raise AuditError(
            f"out must be a new folder or one of the same audit; got {root}, where "
            f"{'; '.join(changes)}. Go back to what it was, or give another folder."
        )


def _take_place(root: Path, name: str) -> Worker:
    """The lock of a worker, and a clean folder for its temporary files."""
    safe = f"worker-{quote(name, safe='')}"
    path, temporary = root / LOCKS / safe, root / TEMPORARY / safe
    # Who cleans holds the locks of the dead for a moment; nobody may ask for one meanwhile.
    with held(root / LOCKS / "begin"):
        lock = Lock.take(path)
        if lock is None:
            by = holder(path)
            raise AuditError(
                f"out must be written to by each worker once at a time; got {root}, where process "
                f"{by.get('process')} on {by.get('host')} is at it as worker {name!r}. "
                "Wait for it or end it, or give another folder."
            )
        try:
            temporary.mkdir(exist_ok=True)
            empty(temporary)
            _clean_after_the_dead(root)
        except BaseException:
            lock.release()
            raise
    return Worker(lock, temporary)


def _clean_after_the_dead(root: Path) -> None:
    """Removes what killed workers left; those of other machines may live where locks stay local."""
    for folder in (root / TEMPORARY).iterdir():
        path = root / LOCKS / folder.name
        lock = Lock.take(path) if is_local(path) else None
        if lock is not None:
            if lock.excludes:
                empty(folder)
            lock.release()
