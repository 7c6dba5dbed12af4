"""The files of single batches: what each left, or why it failed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from faithattn.audits.part import Part
from faithattn.audits.store import encoding
from faithattn.audits.store.columns import Rows
from faithattn.audits.store.encoding import About, Columns
from faithattn.audits.store.files import replace_file
from faithattn.audits.store.opening import FAILED, PARTS, read_json
from faithattn.errors import AuditError

_ENDINGS = {PARTS: ".npz", FAILED: ".json"}


class Batches:
    """Finished and failed batches of a folder; where a batch is both, it is finished."""

    def __init__(self, folder: Path, columns: Columns) -> None:
        self._folder, self._columns = folder, columns

    def finished(self) -> set[int]:
        """Numbers of the batches that left something, damaged or not."""
        return self._numbers(PARTS)

    def failed(self) -> set[int]:
        """Numbers of the batches that failed as a whole."""
        return self._numbers(FAILED) - self._numbers(PARTS)

    def save(self, part: Part, temporary: Path, *, batch: int, first: int, digest: str) -> None:
        """Keeps what a batch left."""
        data = encoding.encode(part, self._columns, batch=batch, first=first, digest=digest)
        self.save_file(data, temporary, batch=batch)

    def save_file(self, data: bytes, temporary: Path, *, batch: int) -> None:
        """Keeps what a batch left, as a file has it; it has not failed then."""
        replace_file(self._path(PARTS, batch), data, temporary)
        self._path(FAILED, batch).unlink(missing_ok=True)

    def save_failure(self, failure: dict[str, Any], temporary: Path) -> None:
        """Keeps why a batch failed."""
        replace_file(self._path(FAILED, failure["batch"]), json.dumps(failure).encode(), temporary)

    def about(self, batch: int) -> About | None:
        """What is known about a finished batch; None if there is none, or a damaged one."""
        data = self._read(batch)
        if data is None or not encoding.is_whole(data):
            return None
        about = encoding.about(data)
        return about if about.batch == batch else None

    def failure(self, batch: int) -> dict[str, Any] | None:
        """Why a batch failed; None if it did not."""
        found: dict[str, Any] | None = read_json(self._path(FAILED, batch))
        return found

    def file(self, batch: int) -> bytes | None:
        """The file of a finished batch; None if there is none.

        Raises:
            AuditError: If it is damaged.
        """
        data = self._read(batch)
        if data is not None and not encoding.is_whole(data):
            raise AuditError(
                f"{self._path(PARTS, batch)} must be as it was written; got a damaged file. "
                f"Run the same audit again: batch {batch} alone is measured anew."
            )
        return data

    def part(self, batch: int) -> Part:
        """What a batch left; blank columns if it failed.

        Raises:
            AuditError: If there is no such batch, or a damaged one.
        """
        data = self.file(batch)
        if data is not None:
            return encoding.decode(data, self._columns)[1]
        failure = self.failure(batch)
        if failure is None:
            raise AuditError(
                f"batch must be one that was measured; got {batch}, which was not. "
                "Run the same audit again."
            )
        first, size = failure["first"], failure["size"]
        return encoding.blank(self._columns, failure["reason"], batch=batch, first=first, size=size)

    def rows(self, batches: Iterable[int]) -> Iterator[Rows]:
        """The columns, failures and times of some batches."""
        for batch in batches:
            data = self.file(batch)
            if data is not None:
                about, matrices = encoding.matrices(data)
                yield Rows(
                    batch, about.first, about.size, False, matrices,
                    dict(about.failures), dict(about.seconds), dict(about.notes),
                )  # fmt: skip
            elif (failure := self.failure(batch)) is not None:
                first, size = failure["first"], failure["size"]
                blank = encoding.blank_matrices(self._columns, batch=batch, first=first, size=size)
                yield Rows(batch, first, size, True, blank, {"": failure["reason"]}, {}, {})

    def _read(self, batch: int) -> bytes | None:
        try:
            return self._path(PARTS, batch).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AuditError(
                f"{self._path(PARTS, batch)} must be readable; got {error.strerror}. "
                "See to it, and run the same command again."
            ) from error

    def _path(self, kind: str, batch: int) -> Path:
        return self._folder / kind / f"{batch:08}{_ENDINGS[kind]}"

    def _numbers(self, kind: str) -> set[int]:
        names = (path.name for path in (self._folder / kind).glob(f"*{_ENDINGS[kind]}"))
        return {int(name) for name, *_ in (each.split(".") for each in names) if name.isdecimal()}
