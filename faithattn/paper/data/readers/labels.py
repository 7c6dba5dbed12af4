"""A reader for texts of several labels each, such as the findings of a clinical note."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike, fspath
from typing import NamedTuple

from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.readers.classes import in_order
from faithattn.paper.data.readers.columns import (
    check_different,
    refuse_nul,
    require_column,
    several_columns,
    split_column,
    split_of,
    text_columns,
)
from faithattn.paper.data.readers.gathering import Gathering, check_options
from faithattn.paper.data.readers.sources import Source, data_name, sources
from faithattn.paper.data.records import Record, read_records
from faithattn.paper.data.splits import Row, Splits, split_rows

_LABEL_NAMES = ("labels", "tags", "codes", "phenotypes")
_FLAGS = {
    **dict.fromkeys(("1", "1.0", "true"), True),
    **dict.fromkeys(("0", "0.0", "false"), False),
}


class _Columns(NamedTuple):
    """Which columns hold what: one of joined labels, or one of 0 and 1 for each label."""

    text: tuple[str, ...]
    labels: tuple[str, ...]
    split: str | None


def read_labels(
    path: str | PathLike[str],
    *,
    text: str | None = None,
    labels: str | None = None,
    split: str | None = None,
    dev_fraction: float = 0.1,
    test_fraction: float = 0.1,
    maximum_words: int | None = None,
    seed: int = 0,
) -> Dataset:
    r"""Reads texts of several independent labels each from CSV, TSV or JSON-lines files.

    Files, texts and splits are as for
    :func:`~faithattn.paper.data.readers.read_texts`, except that rows are split
    at random without regard to their labels. The labels of a row are either

    * in one column, with ``|`` or ``;`` between them, or as a list in a
      JSON-lines file; labels are numbered in numeric order where all are
      numbers, else in alphabetical order; or
    * in one column of 0 and 1 (or true and false) for each label; labels are
      numbered as the columns are given.

    A row may have no label: an empty string or list, or 0 everywhere.

    Args:
        path: The file, UTF-8, or a folder of one file for each split.
        text: Column of the texts, or several with commas between them; by
            default as for ``read_texts``.
        labels: Column of the labels, or the columns of 0 and 1 with commas
            between them (``fever,cough``); by default the column ``labels``,
            ``tags``, ``codes`` or ``phenotypes``.
        split: Column of the splits; by default as for ``read_texts``.
        dev_fraction: Share of rows for dev, where the file does not say.
        test_fraction: Share of rows for test, where the file does not say.
        maximum_words: Longer texts are cut to as many tokens, and ``cut``
            counts them; None for no limit.
        seed: Seed of the random split.

    Returns:
        The data set; its examples have ``labels`` and the class -1.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file cannot be read, a row is malformed (its line is
            named, counted from 1), there is only one label (or a column that
            says of one whether it holds), or one that no training row has.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> rows = "text,labels,split\nHot and coughing,fever|cough,train\nWell,,train\n"
        >>> rows += "Hot,fever,dev\nCoughs,cough,test\n"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "notes.csv")
        ...     _ = file.write_text(rows, encoding="utf-8")
        ...     data = read_labels(file)
        >>> data.labels, data.test[0].tokens, data.test[0].labels
        (('cough', 'fever'), ('coughs',), (0,))
    """
    check_options(dev_fraction, test_fraction, seed)
    gathering = Gathering(maximum_words)
    rows: list[Row] = []
    for source in sources(path):
        names, records = read_records(source.path)
        columns = _columns(names, text, labels, split, source)
        rows.extend(_rows(records, columns, source.split, gathering))
    found = _label_names(rows, columns, fspath(path))
    index = {name: number for number, name in enumerate(found)}
    splits = split_rows(rows, dev_fraction, test_fraction, seed)
    _check_train(splits, found)
    return gathering.dataset(
        data_name(path),
        splits,
        found,
        lambda row: Example(
            row.tokens, -1, labels=tuple(sorted(index[name] for name in row.labels))
        ),
    )


def _columns(
    names: Sequence[str], text: str | None, labels: str | None, split: str | None, source: Source
) -> _Columns:
    """Finds the columns of a file by the names given or by common names."""
    file = fspath(source.path)
    found = _Columns(
        text=text_columns(names, text, file),
        labels=(require_column(names, "labels", None, _LABEL_NAMES, file),)
        if labels is None
        else several_columns(names, "labels", labels, file),
        split=split_column(names, split, source),
    )
    used = (*found.text, *found.labels, found.split)
    check_different(used, "text, labels and split", names, file)
    return found


def _rows(
    records: Iterable[Record], columns: _Columns, split: str | None, gathering: Gathering
) -> Iterator[Row]:
    """Checks the records of a file."""
    for record in records:
        if len(columns.labels) == 1:
            labels = _joined(record, columns.labels[0])
        else:
            labels = tuple(name for name in columns.labels if _flag(record, name))
        own = split if columns.split is None else split_of(record, columns.split)
        tokens = gathering.tokens(record, columns.text, "text")
        yield Row(record.line, record.file, tokens, split=own, labels=labels)


def _joined(record: Record, column: str) -> tuple[str, ...]:
    """Returns the labels that stand in one column."""
    value = record.values.get(column)
    refuse_nul(record, column, "labels")
    if isinstance(value, str):
        names = re.split(r"[|;]", value) if value.strip() else []
    elif isinstance(value, list) and all(_is_name(each) for each in value):
        names = list(map(str, value))
    else:
        raise ValueError(
            f"labels must be a list or a string in every row; got {value!r} in {column!r} at "
            f"{record.place}. Correct the row; an empty string says that no label holds."
        )
    names = [sys.intern(name.strip()) for name in names]
    wrong = [name for name in names if name.lower() in ("", "nan") or name.startswith("[")]
    if wrong or len(set(names)) < len(names):
        raise ValueError(
            "labels must be different names with | or ; between them, or a list in a JSON-lines "
            f"file; got {value!r} in {column!r} at {record.place}. Correct the row."
        )
    return tuple(names)


def _is_name(value: object) -> bool:
    """Whether a value of a list can name a label."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _flag(record: Record, column: str) -> bool:
    """Returns whether the label of a column holds."""
    value = record.values.get(column)
    flag = _FLAGS.get(str(value).strip().lower())
    if flag is None:
        raise ValueError(
            f"labels must be 0 or 1 in every row; got {value!r} in {column!r} at {record.place}. "
            "Correct the row."
        )
    return flag


def _label_names(rows: Sequence[Row], columns: _Columns, file: str) -> tuple[str, ...]:
    """Returns the labels in order, of which there must be two."""
    if len(columns.labels) > 1:
        return columns.labels
    names = in_order({name for row in rows for name in row.labels})
    single = all(len(row.labels) == 1 and row.labels[0].lower() in _FLAGS for row in rows)
    if len(names) < 2 or single:
        raise ValueError(
            f"labels must name two labels or more; got {list(names)} in {columns.labels[0]!r} of "
            f"{file}{', which says whether one holds' if single else ''}. Name the right columns "
            "with labels=, or use read_texts for one class."
        )
    return names


def _check_train(splits: Splits, names: Sequence[str]) -> None:
    """Raises if no training row has one of the labels, which could then not be learned."""
    held = {name for row in splits.train for name in row.labels}
    never = [name for name in names if name not in held]
    if never:
        raise ValueError(
            f"labels must each hold in a row for training; got none with {never[0]!r}, the first "
            f"of {len(never)} such labels. Leave them out of the file, mark rows with them as "
            "train, or split with another seed."
        )
