"""Rows of CSV, TSV and JSON-lines files, each with the line it begins on."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple

from faithattn.paper.data.files import numbered_lines, refuse_folder

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")


class Record(NamedTuple):
    """One row: the line it begins on, counted from 1, its values by column, and its file."""

    line: int
    values: dict[str, object]
    file: str

    @property
    def place(self) -> str:
        """Where the row is, for errors."""
        return f"line {self.line} of {self.file}"


def read_records(path: str | PathLike[str]) -> tuple[list[str], list[Record]]:
    """Returns the columns and the rows of a file; empty lines are no rows."""
    refuse_folder(path)
    suffix = Path(path).suffix.lower()
    if suffix in _JSON_LINES:
        records = list(_json_lines(path))
        columns = list(dict.fromkeys(column for record in records for column in record.values))
    elif suffix in _DELIMITERS:
        columns, records = _table(path, _DELIMITERS[suffix])
    else:
        raise ValueError(
            f"path must end in .csv, .tsv or .jsonl; got {fspath(path)}. "
            "Convert the file, or rename it to say what it holds."
        )
    if not records:
        raise ValueError(
            f"path must hold rows of texts and labels; got none in {fspath(path)}. "
            "Check that the file is complete."
        )
    return columns, records


def _json_lines(path: str | PathLike[str]) -> Iterator[Record]:
    """Yields one row per line that holds a JSON object."""
    for line, text in numbered_lines(path):
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


def _table(path: str | PathLike[str], delimiter: str) -> tuple[list[str], list[Record]]:
    """Returns the header and the rows of a delimited file."""
    columns: list[str] = []
    records = []
    for line, fields in _fields(path, delimiter):
        if not columns:
            columns = _header(fields, line, path)
        elif len(fields) != len(columns):
            raise ValueError(
                f"path must hold {len(columns)} columns in each row, as its header does; got "
                f"{len(fields)} at line {line} of {fspath(path)}. "
                "Put texts that hold the separator between double quotes."
            )
        else:
            records.append(Record(line, dict(zip(columns, fields, strict=True)), fspath(path)))
    return columns, records


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


def _fields(path: str | PathLike[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the fields of each row that is not empty, with the line it begins on."""
    texts = (text for _, text in numbered_lines(path))
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
                f"cannot be read ({error}). Close quotes, and double those inside quoted texts."
            ) from error
        if fields:
            yield line, fields
