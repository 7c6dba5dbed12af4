"""The columns of a finished audit: one file each, written batch by batch."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from faithattn.audits.part import Column
from faithattn.audits.store.encoding import Columns
from faithattn.audits.store.files import sync_file, sync_folder
from faithattn.audits.store.manifest import DTYPES
from faithattn.errors import AuditError

INDEX, FAILURES, SECONDS, NOTES = "index.npy", "failures.jsonl", "seconds.json", "notes.json"
_BLOCK = 8 * 2**20  # bytes of batches held at once


class Rows(NamedTuple):
    """What a batch adds.

    Attributes:
        batch: Its number.
        first: Id of its first instance.
        size: Instances.
        failed: Whether it failed as a whole.
        matrices: Its columns by type, ``(columns, B)`` each.
        failures: Reasons by metric.
        seconds: Time each metric took.
        notes: What else should be known, by name.
    """

    batch: int
    first: int
    size: int
    failed: bool
    matrices: dict[str, Column]
    failures: dict[str, str]
    seconds: dict[str, float]
    notes: dict[str, str]


def file_of(number: int) -> str:
    """Name of a column's file. Its own name may be anything, also what no file is called."""
    return f"{number:05}.npy"


def write_columns(folder: Path, columns: Columns, batches: Iterable[Rows], size: int) -> None:
    """Writes every column, the index of the batches, their failures and their times.

    Args:
        folder: An empty folder.
        columns: Names and types.
        batches: All batches in order.
        size: Instances in all.

    Raises:
        AuditError: If the batches do not follow each other up to the last instance.
    """
    for number, (_, dtype) in enumerate(columns):
        _begin(folder / file_of(number), dtype, (size,))
    index, seconds, notes = array("q"), dict[str, float](), dict[str, list[str]]()
    with (folder / FAILURES).open("xb") as failures:
        for block in _blocks(_in_order(batches, size)):
            _append(folder, columns, block)
            for rows in block:
                index.extend((rows.first, rows.size, rows.failed))
                for metric, reason in rows.failures.items():
                    line = [rows.batch, rows.first, rows.size, metric, reason]
                    failures.write(json.dumps(line).encode() + b"\n")
            seconds = summed([seconds, *(rows.seconds for rows in block)])
            notes = gathered(notes, (rows.notes for rows in block))
        sync_file(failures)
    with (folder / INDEX).open("xb") as file:
        np.save(file, np.array(index).reshape(-1, 3), allow_pickle=False)
        sync_file(file)
    for name, values in ((SECONDS, seconds), (NOTES, notes)):
        with (folder / name).open("xb") as file:
            file.write(json.dumps(values).encode())
            sync_file(file)
    for number in range(len(columns)):
        with (folder / file_of(number)).open("ab") as file:
            sync_file(file)
    sync_folder(folder)


def read_array(path: Path) -> NDArray[Any]:
    """An array that stays on the disk until it is used."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise AuditError(
            f"columns must be whole; got {path.name}, which cannot be read ({error}). "
            f"Remove {path.parent}, and run the same audit again: its batches are kept."
        ) from error
    return array


def read_failures(folder: Path) -> Iterator[tuple[int, int, int, str, str]]:
    """Batch, first instance, size, metric and reason of every failure."""
    with (folder / FAILURES).open("rb") as file:
        for line in file:
            yield tuple(json.loads(line))


def summed(times: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Times by metric, added up."""
    total: dict[str, float] = {}
    for each in times:
        for metric, time in each.items():
            total[metric] = total.get(metric, 0.0) + time
    return total


def gathered(
    known: Mapping[str, list[str]], notes: Iterable[Mapping[str, str]]
) -> dict[str, list[str]]:
    """Every note by name, each once, in alphabetical order."""
    found = {name: set(values) for name, values in known.items()}
    for each in notes:
        for name, value in each.items():
            found.setdefault(name, set()).add(value)
    return {name: sorted(values) for name, values in found.items()}


def _in_order(batches: Iterable[Rows], size: int) -> Iterator[Rows]:
    """The batches, each of which must begin where the one before ended."""
    end = 0
    for rows in batches:
        if rows.first != end:
            raise AuditError(
                f"batches must follow each other; got {rows.batch}, which begins with instance "
                f"{rows.first} where {end} is due. Run the audit in a new folder, with batches "
                "that are the same each time."
            )
        end += rows.size
        yield rows
    if end != size:
        raise AuditError(
            f"batches must hold {size} instances in all; got {end}. Run the audit in a new "
            "folder, with batches that are the same each time."
        )


def _blocks(batches: Iterable[Rows]) -> Iterator[list[Rows]]:
    """As many batches at a time as fit into the memory that is set aside."""
    block: list[Rows] = []
    held = 0
    for rows in batches:
        block.append(rows)
        held += sum(matrix.nbytes for matrix in rows.matrices.values()) + 2**12
        if held >= _BLOCK:
            yield block
            block, held = [], 0
    if block:
        yield block


def _begin(path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    """Writes the head of an array whose values follow."""
    described = np.lib.format.dtype_to_descr(np.dtype(dtype))
    with path.open("xb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": described, "fortran_order": False, "shape": shape}
        )


def _append(folder: Path, columns: Columns, block: Sequence[Rows]) -> None:
    """Adds the values of some batches to every column; no more than one file is open."""
    rows = {
        dtype: iter(np.concatenate([each.matrices[dtype] for each in block], axis=1))
        for dtype in DTYPES
    }
    for number, (_, dtype) in enumerate(columns):
        with (folder / file_of(number)).open("ab") as file:
            file.write(next(rows[dtype]).tobytes())
