"""An audit's folder: written batch by batch by any number of workers, read by anybody."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from faithattn.audits.evidence import Failure
from faithattn.audits.part import Part
from faithattn.audits.store import columns as files
from faithattn.audits.store.batches import Batches
from faithattn.audits.store.encoding import About
from faithattn.audits.store.end import End, described, listed
from faithattn.audits.store.files import create_file, empty, sync_folder, unused
from faithattn.audits.store.locks import held
from faithattn.audits.store.manifest import Manifest
from faithattn.audits.store.opening import LOCKS, MANIFEST, Worker, manifest_of, read_json, saving
from faithattn.audits.store.opening import begin as take_place
from faithattn.errors import AuditError

END, COLUMNS = "end.json", "columns"


class Store:
    """The folder of an audit; made by ``begin``, ``open`` or ``merge``.

    Attributes:
        folder: Where it is.
        manifest: What was asked.

    Examples:
        >>> import tempfile
        >>> manifest = Manifest(1, {"seed": 0}, {}, {}, [("loo.statistic", "float64")])
        >>> part = Part({"loo.statistic": np.array([0.5, np.nan])})
        >>> with tempfile.TemporaryDirectory() as out, Store.begin(out, manifest) as store:
        ...     store.write(0, part, first=0, digest="of the inputs")
        ...     store.end(1, 2, "of all inputs")
        ...     store.finish()
        ...     store.holds(0, "of the inputs"), store.column("loo.statistic").tolist()
        (True, [0.5, nan])
    """

    def __init__(self, folder: Path, manifest: Manifest, worker: Worker | None = None) -> None:
        self.folder, self.manifest = folder, manifest
        self._batches = Batches(folder, manifest.columns)
        self._worker = worker
        self._end: End | None = None

    @classmethod
    def begin(cls, folder: str | Path, manifest: Manifest, *, worker: str = "0") -> Store:
        """Begins an audit in a new folder, or goes on with it where it was left.

        Args:
            folder: The folder; made where there is none.
            manifest: What the numbers depend on.
            worker: A name for each of the processes that write into one folder.

        Raises:
            AuditError: If the folder holds something else, another audit (all
                that changed is named), cannot be written to, or is being written to by a
                worker of this name.
        """
        root = Path(folder).absolute()
        return cls(root, manifest, take_place(root, manifest, worker))

    @classmethod
    def open(cls, folder: str | Path) -> Store:
        """Opens the folder of an audit, finished or not, to read it.

        Raises:
            AuditError: If it is none.
        """
        root = Path(folder).absolute()
        manifest = manifest_of(root)
        if manifest is None:
            raise AuditError(
                f"folder must be one that an audit wrote; got {root}, which has no {MANIFEST}. "
                "Give the out= of an audit."
            )
        return cls(root, manifest)

    def holds(self, index: int, digest: str, *, whole: bool = False) -> bool:
        """Whether a batch is finished; one whose file is damaged is not.

        Args:
            index: Number of the batch.
            digest: Digest of its inputs.
            whole: Whether one in which a metric failed is not, either.

        Raises:
            AuditError: If the batch had other content when it was measured.
        """
        about = self.about(index)
        known = about.digest if about else None
        if about is None:
            with suppress(AuditError):  # a damaged record of a failure holds nobody up
                known = (self.failure(index) or {}).get("digest")
        if known not in (None, digest):
            raise AuditError(
                "batches must come in the same order with the same content; got another batch "
                f"{index} than before. Load them with shuffle=False and nothing random, or give "
                "another folder."
            )
        return about is not None and not (whole and about.failures)

    def write(self, index: int, part: Part, *, first: int, digest: str) -> None:
        """Keeps what a batch left; once this returns, only the disk can lose it.

        Args:
            index: Number of the batch, from 0.
            part: Its columns, those of the manifest.
            first: Id of its first instance.
            digest: Digest of its inputs.

        Raises:
            ValueError: If the part has other columns, or rows of another number.
            AuditError: If the folder cannot be written to.
        """
        with saving(self.folder), self._outdating():
            self._batches.save(part, self._temporary(), batch=index, first=first, digest=digest)

    def fail(self, index: int, *, first: int, size: int, digest: str, reason: str) -> None:
        """Records that a batch failed as a whole; it is tried again when the audit runs again.

        Raises:
            AuditError: If the folder cannot be written to.
        """
        failure = {"batch": index, "first": first, "size": size, "digest": digest, "reason": reason}
        with saving(self.folder), self._outdating():
            self._batches.save_failure(failure, self._temporary())

    @contextmanager
    def _outdating(self) -> Iterator[None]:
        """Lets columns be written again that were before: killed in between, or by others."""
        index = self.folder / COLUMNS / files.INDEX
        index.unlink(missing_ok=True)
        yield
        index.unlink(missing_ok=True)

    def copy(self, index: int, source: Store) -> None:
        """Keeps what a batch left in another folder, or why it failed there.

        Raises:
            AuditError: If the batch is damaged there, or the folder cannot be written to.
        """
        data, failure = source._batches.file(index), source.failure(index)
        with saving(self.folder):
            if data is not None:
                self._batches.save_file(data, self._temporary(), batch=index)
            elif failure is not None:
                self._batches.save_failure(failure, self._temporary())

    def end(self, batches: int, instances: int, digest: str) -> None:
        """Says what the data are, once all batches were seen.

        Raises:
            AuditError: If somebody saw other data, or more batches are kept than there are.
        """
        end = End(batches, instances, digest)
        if self.known_end() is None:
            data = json.dumps(end._asdict()).encode()
            with saving(self.folder):
                create_file(self.folder / END, data, self._temporary())
        known, last = self.known_end(), max(self._batches.finished(), default=-1)
        if known != end or last >= batches:
            before = f"batch {last}" if known == end else described(known)
            raise AuditError(
                "batches must be the same in every process and at every run; got "
                f"{described(end)}, and before {before}. "
                "Load the same data each time, or give another folder."
            )

    def known_end(self) -> End | None:
        """What the data are; None as long as nobody has seen all of them."""
        if self._end is None:
            values = read_json(self.folder / END)
            self._end = End(**values) if values is not None else None
        return self._end

    @property
    def is_complete(self) -> bool:
        """Whether every batch is finished or has failed."""
        return self.known_end() is not None and not self.missing()

    @property
    def is_finished(self) -> bool:
        """Whether ``finish`` has written the columns, of all that is there now."""
        end, path = self.known_end(), self.folder / COLUMNS / files.INDEX
        if end is None or not path.exists():
            return False
        index = files.read_array(path)
        failed = np.flatnonzero(index[:, 2])
        again = len(failed) > 0 and not self._batches.finished().isdisjoint(failed.tolist())
        return len(index) == end.batches and not again

    def missing(self) -> list[int]:
        """Batches that are neither finished nor failed.

        Raises:
            AuditError: If it is not known how many there are.
        """
        end, there = self.known_end(), set(self.known())
        if end is None:
            raise AuditError(
                "batches must all have been seen; got an audit that was stopped before. "
                "Run the same audit again."
            )
        return [index for index in range(end.batches) if index not in there]

    def finish(self) -> None:
        """Writes each column into a file of its own; where that was done, nothing.

        Raises:
            AuditError: If batches are missing or damaged, which are named, or
                the folder cannot be written to.
        """
        if self.is_finished:
            return
        temporary, missing = self._temporary(), self.missing()
        if missing:
            raise AuditError(
                f"batches must all be finished; got none for {listed(missing)}. "
                "Run the same audit again."
            )
        with saving(self.folder), held(self.folder / LOCKS / "finish"):
            if self.is_finished:
                return
            try:
                fresh = unused(temporary, COLUMNS)
                fresh.mkdir()
                batches = self._batches.rows(self.known())
                files.write_columns(fresh, self.manifest.columns, batches, len(self))
                if (self.folder / COLUMNS).exists():
                    (self.folder / COLUMNS).rename(unused(temporary, COLUMNS))
                fresh.rename(self.folder / COLUMNS)
                sync_folder(self.folder)
            finally:  # on a full disk, half of the columns is no use
                empty(temporary)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(name for name, _ in self.manifest.columns)

    def column(self, name: str) -> NDArray[Any]:
        """One value an instance, ``(N,)``, read from the disk as it is used.

        Raises:
            ValueError: If there is no such column.
            AuditError: If the audit is not finished.
        """
        if name not in self.columns:
            raise ValueError(
                f"name must be a column; got {name!r}. Choose one of {', '.join(self.columns)}."
            )
        return files.read_array(self._finished() / files.file_of(self.columns.index(name)))

    def about(self, index: int) -> About | None:
        """What is known about a finished batch; None if there is none, or a damaged one."""
        return self._batches.about(index)

    def failure(self, index: int) -> dict[str, Any] | None:
        """What ``fail`` recorded of a batch; None if it did not fail."""
        return self._batches.failure(index)

    def part(self, index: int) -> Part:
        """What a batch left; blank columns if it failed.

        Raises:
            AuditError: If the batch is missing or damaged.
        """
        return self._batches.part(index)

    def locate(self, instance: int) -> tuple[int, int]:
        """The batch of an instance, and its row there.

        Raises:
            ValueError: If there is no such instance.
            AuditError: If the audit is not finished.
        """
        starts = files.read_array(self._finished() / files.INDEX)[:, 0]
        if not 0 <= instance < len(self):
            raise ValueError(
                f"instance must be below {len(self)} and not negative; got {instance}. "
                "Choose one that was audited."
            )
        batch = int(np.searchsorted(starts, instance, side="right")) - 1
        return batch, instance - int(starts[batch])

    def failures(self) -> tuple[Failure, ...]:
        """Every metric that failed on a batch, and every batch that failed, in order."""
        if self.is_finished:
            lines: Iterable[Any] = files.read_failures(self.folder / COLUMNS)
        else:
            lines = (
                (rows.batch, rows.first, rows.size, metric, reason)
                for rows in self._batches.rows(self.known())
                for metric, reason in rows.failures.items()
            )
        return tuple(
            Failure(batch, (first, first + size - 1), metric, reason)
            for batch, first, size, metric, reason in lines
        )

    def seconds(self) -> dict[str, float]:
        """Time that each metric took, over all batches and workers."""
        if self.is_finished:
            return dict(read_json(self.folder / COLUMNS / files.SECONDS))
        return files.summed(rows.seconds for rows in self._batches.rows(self.known()))

    def notes(self) -> dict[str, list[str]]:
        """What parts noted, by name: every note once."""
        if self.is_finished:
            return dict(read_json(self.folder / COLUMNS / files.NOTES))
        return files.gathered({}, (rows.notes for rows in self._batches.rows(self.known())))

    def known(self) -> list[int]:
        """Batches that are finished or have failed, in order."""
        return sorted(self._batches.finished() | self._batches.failed())

    def failed(self) -> list[int]:
        """Batches that have failed as a whole, in order."""
        return sorted(self._batches.failed())

    def __len__(self) -> int:
        """Instances of the audit; 0 as long as nobody has seen all of them."""
        end = self.known_end()
        return end.instances if end else 0

    def close(self) -> None:
        """Lets go of the folder, which can still be read."""
        if self._worker is not None:
            self._worker.lock.release()
            self._worker = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _temporary(self) -> Path:
        if self._worker is None:
            raise AuditError(
                f"store must be open for writing; got {self.folder} opened to be read, or closed. "
                "Use Store.begin."
            )
        return self._worker.temporary

    def _finished(self) -> Path:
        if not self.is_finished:
            raise AuditError(
                f"audit must be finished to be read by column; got {self.folder}, which is not. "
                "Run the same audit again."
            )
        return self.folder / COLUMNS
