"""A reader for texts with labels in CSV, TSV or JSON-lines files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple

from faithattn._checks import require_count
from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.records import Record, read_records
from faithattn.paper.data.splits import Row, Splits, check_fractions, given_splits, made_splits
from faithattn.paper.data.vocabulary import tokenize

_COMMON_NAMES = {
    "text": ("text", "sentence", "review"),
    "label": ("label", "sentiment", "target", "class"),
    "split": ("split", "exp_split", "set", "fold", "partition"),
}
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "development", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?", re.ASCII)


class _Columns(NamedTuple):
    """Which column holds what."""

    text: str
    label: str
    split: str | None


def read_texts(
    path: str | PathLike[str],
    *,
    text: str | None = None,
    label: str | None = None,
    split: str | None = None,
    dev_fraction: float = 0.1,
    test_fraction: float = 0.1,
    n_classes: int | None = None,
    seed: int = 0,
) -> Dataset:
    r"""Reads labelled texts from a CSV, TSV or JSON-lines file.

    The ending of the name says which it is (.csv, .tsv or .tab, .jsonl or
    .ndjson). Delimited files begin with a header. Every row that is not an
    empty line becomes an example or stops the reading: nothing is dropped.

    Labels may be words or numbers. Classes are numbered in numeric order where
    all labels are numbers (1.0 is 1), else in alphabetical order. Values of the
    split column are train, dev (or valid, validation, val) and test, in any
    case. Without that column, each class is split at random; without dev rows,
    a share of each class moves from train to dev.

    Args:
        path: The file, UTF-8.
        text: Column of the texts; by default the first of ``text``,
            ``sentence``, ``review`` that the file has, in any case.
        label: Column of the labels; by default ``label``, ``sentiment``,
            ``target`` or ``class``.
        split: Column of the splits; by default ``split``, ``exp_split``,
            ``set``, ``fold`` or ``partition``, if there is one.
        dev_fraction: Share of rows for dev, where the file does not say.
        test_fraction: Share of rows for test, where the file does not say.
        n_classes: Number of classes the file must have; None for two or more.
        seed: Seed of the random split.

    Returns:
        The data set, named like the file without its ending. Texts are tokens
        as :func:`~faithattn.paper.data.vocabulary.tokenize` makes them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, a row is malformed (its line
            is named, counted from 1), a label of dev or test is unknown to
            train, or the number of classes is wrong.

    Examples:
        >>> import tempfile
        >>> rows = "text,label,split\nGood film.,1,train\nA bore,0,train\n"
        >>> rows += "Odd film,0,dev\nFine,1,test\n"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "films.csv")
        ...     _ = file.write_text(rows, encoding="utf-8")
        ...     data = read_texts(file)
        >>> data.name, data.labels, data.train[0].tokens
        ('films', ('0', '1'), ('good', 'film', '.'))
    """
    check_fractions(dev_fraction, test_fraction)
    require_count("seed", seed, least=0)
    names, records = read_records(path)
    columns = _columns(names, text, label, split, fspath(path))
    rows = _merge_numbers([_row(record, columns) for record in records])
    labels = _class_names(rows, n_classes, f"{columns.label!r} of {fspath(path)}")
    if columns.split is None:
        splits = made_splits(rows, dev_fraction, test_fraction, seed)
    else:
        splits = given_splits(rows, dev_fraction, seed)
    return _dataset(Path(path).stem, splits, labels)


def _dataset(name: str, splits: Splits, labels: tuple[str, ...]) -> Dataset:
    """Numbers the classes of the rows."""
    index = {label: number for number, label in enumerate(labels)}
    train, dev, test = (
        tuple(Example(row.tokens, index[row.label]) for row in part) for part in splits
    )
    return Dataset(name, train, dev, test, labels)


def _columns(
    names: Sequence[str], text: str | None, label: str | None, split: str | None, file: str
) -> _Columns:
    """Finds the three columns by the names given or by common names."""
    found = _Columns(
        text=_required(names, "text", text, file),
        label=_required(names, "label", label, file),
        split=_column(names, "split", split, file),
    )
    if len(set(found)) < len(found):
        raise ValueError(
            f"text, label and split must name different columns; got {tuple(found)}. "
            f"{file} has {list(names)}."
        )
    return found


def _required(names: Sequence[str], argument: str, given: str | None, file: str) -> str:
    """Returns the column for an argument that the file must have."""
    column = _column(names, argument, given, file)
    if column is None:
        raise ValueError(
            f"{argument} must name a column of {file}; got none that is called "
            f"{' or '.join(_COMMON_NAMES[argument])} among {list(names)}. Name the column "
            "(a delimited file begins with a header)."
        )
    return column


def _column(names: Sequence[str], argument: str, given: str | None, file: str) -> str | None:
    """Returns the column for an argument, None if none was given or found."""
    if given is not None:
        if given not in names:
            raise ValueError(
                f"{argument} must name a column of {file}; got {given!r}, not among "
                f"{list(names)}. Use one of these."
            )
        return given
    spelled = {name.lower(): name for name in reversed(names)}
    return next((spelled[name] for name in _COMMON_NAMES[argument] if name in spelled), None)


def _row(record: Record, columns: _Columns) -> Row:
    """Checks one record."""
    for argument, column in columns._asdict().items():
        value = record.values.get(column)
        if isinstance(value, str) and "\0" in value:
            raise ValueError(
                f"{argument} must hold no NUL character; got one in {column!r} at {record.place}. "
                "Remove it, and check whether the file is damaged."
            )
    return Row(
        line=record.line,
        tokens=_tokens(record, columns.text),
        label=_label(record, columns.label),
        split=None if columns.split is None else _split(record, columns.split),
        place=record.place,
    )


def _tokens(record: Record, column: str) -> tuple[str, ...]:
    """Returns the tokens of a record's text."""
    value = record.values.get(column)
    if value is not None and not isinstance(value, str):
        raise ValueError(
            f"text must be a string in every row; got {type(value).__name__} in {column!r} at "
            f"{record.place}. Correct the row."
        )
    tokens = tuple(tokenize(value or ""))
    if not tokens:
        raise ValueError(
            f"text must hold a word in every row; got {value!r} in {column!r} at "
            f"{record.place}. Fill in or remove the row."
        )
    return tokens


def _label(record: Record, column: str) -> str:
    """Returns the label of a record as a string."""
    value = record.values.get(column)
    if value is not None and not isinstance(value, (str, bool, int, float)):
        raise ValueError(
            f"label must be a word or a number in every row; got {type(value).__name__} in "
            f"{column!r} at {record.place}. Correct the row."
        )
    name = "" if value is None else str(value).strip()
    if name.lower() in ("", "nan"):
        raise ValueError(
            f"label must be given in every row; got {value!r} in {column!r} at "
            f"{record.place}. Fill in or remove the row."
        )
    return name


def _split(record: Record, column: str) -> str:
    """Returns the split of a record."""
    value = record.values.get(column)
    name = _SPLIT_NAMES.get(value.strip().lower()) if isinstance(value, str) else None
    if name is None:
        raise ValueError(
            f"split must be train, dev or test in every row; got {value!r} in {column!r} at "
            f"{record.place}. Correct the row, or name the right column with split=."
        )
    return name


def _merge_numbers(rows: list[Row]) -> list[Row]:
    """Spells equal numbers alike (1 and 1.0) where all labels are numbers."""
    if not all(_NUMBER.fullmatch(row.label) for row in rows):
        return rows
    return [row._replace(label=_spelled(Decimal(row.label))) for row in rows]


def _spelled(value: Decimal) -> str:
    """Returns a number without needless decimals."""
    return str(int(value)) if value == int(value) else format(value.normalize(), "f")


def _class_names(rows: list[Row], n_classes: int | None, place: str) -> tuple[str, ...]:
    """Returns the classes in numeric order where all are numbers, else alphabetically."""
    names = {row.label for row in rows}
    if len(names) < 2:
        raise ValueError(
            f"label must hold two classes or more; got only {names.pop()!r} in {place}. "
            "Check the file, or name the right column with label=."
        )
    if n_classes is not None and len(names) != n_classes:
        raise ValueError(
            f"label must hold {n_classes} classes; got {len(names)} in {place}. Keep or merge "
            "classes, or name the right column with label=."
        )
    numeric = all(_NUMBER.fullmatch(name) for name in names)
    return tuple(sorted(names, key=Decimal) if numeric else sorted(names))
