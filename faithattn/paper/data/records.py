"""Rows of CSV, TSV and JSON-lines files, read one by one, each with the line it begins on."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import chain
from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple, TypeVar

from faithattn.paper.data.files import numbered_lines, refuse_folder

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
# Bounds what a file without line ends takes into memory, far above any text.
_LONGEST_LINE = 2**24

_T = TypeVar("_T")

TABLES = (*_DELIMITERS, *_JSON_LINES)


class Record(NamedTuple):
    """One row: the line it begins on, counted from 1, its values by column, and its file."""

    line: int
    values: dict[str, object]
    file: str

    @property
    def place(self) -> str:
        """Where the row is, for errors."""
        return f"line {self.line} of {self.file}"


def read_records(path: str | PathLike[str]) -> tuple[list[str], Iterator[Record]]:
    """Returns the columns and the rows of a file, which are read as they are taken.

    Empty lines are no rows. Each row of a JSON-lines file may have other
    columns, so that such a file is read twice.
    """
    refuse_folder(path)
    suffix = Path(path).suffix.lower()
    if suffix in _JSON_LINES:
        columns = list(dict.fromkeys(name for each in _json_lines(path) for name in each.values))
        records = _json_lines(path)
    elif suffix in _DELIMITERS:
        columns, records = _table(path, _DELIMITERS[suffix])
    else:
        raise ValueError(
            f"path must end in .csv, .tsv or .jsonl; got {fspath(path)}. "
            "Convert the file, or rename it to say what it holds."
        )
    return columns, not_empty(records, path)


def not_empty(records: Iterator[_T], path: str | PathLike[str]) -> Iterator[_T]:
    """Returns the rows of a file again, of which there must be one."""
    for first in records:
        return chain([first], records)
    raise ValueError(
        f"path must hold rows of texts and labels; got none in {fspath(path)}. "
        "Check that the file is complete."
    )


def _json_lines(path: str | PathLike[str]) -> Iterator[Record]:
    """Yields one row per line that holds a JSON object."""
    for line, text in numbered_lines(path, longest=_LONGEST_LINE):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"path must hold one JSON object in each line; got invalid JSON at line {line} of "
                f"{fspath(path)} ({error}). Correct the line."
            ) from error
        if not isinstance(values, dict):
            raise ValueError(
                f"path must hold one JSON object in each line; got {type(values).__name__} at "
                f"line {line} of {fspath(path)}. Write each row with its column names."
            )
        yield Record(line, values, fspath(path))


def _table(path: str | PathLike[str], delimiter: str) -> tuple[list[str], Iterator[Record]]:
    """Returns the header and the rows of a delimited file."""
    fields = read_fields(path, delimiter)
    for line, header in fields:
        columns = _header(header, line, path)
        return columns, _table_rows(fields, columns, path)
    return [], iter(())


def _table_rows(
    rows: Iterator[tuple[int, list[str]]], columns: list[str], path: str | PathLike[str]
) -> Iterator[Record]:
    """Yields the rows of a delimited file, which must have as many columns as its header."""
    file = fspath(path)
    for line, fields in rows:
        if len(fields) != len(columns):
            raise ValueError(
                f"path must hold {len(columns)} columns in each row, as its header does; got "
                f"{len(fields)} at line {line} of {file}. "
                "Put texts that hold the separator between double quotes."
            )
        yield Record(line, dict(zip(columns, fields, strict=True)), file)


def _header(fields: list[str], line: int, path: str | PathLike[str]) -> list[str]:
    """Returns the column names, which must differ."""
    columns = [field.strip() for field in fields]
    repeated = [column for column in columns if columns.count(column) > 1]
    if repeated:
        raise ValueError(
            f"path must name each column once; got {repeated[0]!r} twice at line {line} of "
            f"{fspath(path)}. Rename one of them."
        )
    return columns


def read_fields(path: str | PathLike[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the fields of each row that is not empty, with the line it begins on."""
    texts = (text for _, text in numbered_lines(path, longest=_LONGEST_LINE))
    # Not strict, a quote left open would swallow the rest of the file.
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                f"path must hold well-formed rows; got a row at line {line} of {fspath(path)} that "
                f"cannot be read ({error}). Close quotes, double those inside quoted texts, and "
                "write very long texts to a .jsonl file."
            ) from error
        if fields:
            yield line, fields
