"""A reader for texts of one class each in CSV, TSV or JSON-lines files."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike, fspath
from typing import NamedTuple

from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.readers.classes import (
    check_number,
    check_present,
    chosen_classes,
    class_names,
    merge_numbers,
    spelled,
)
from faithattn.paper.data.readers.columns import (
    LABEL_NAMES,
    check_different,
    label_of,
    require_column,
    spelled_out,
    split_column,
    split_of,
    text_columns,
)
from faithattn.paper.data.readers.gathering import Gathering, check_options
from faithattn.paper.data.readers.sources import Source, data_name, sources
from faithattn.paper.data.records import Record, read_records
from faithattn.paper.data.splits import Row, split_rows


class _Columns(NamedTuple):
    """Which columns hold what."""

    text: tuple[str, ...]
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
    classes: Sequence[str] | None = None,
    maximum_words: int | None = None,
    seed: int = 0,
) -> Dataset:
    r"""Reads texts with a class each from CSV, TSV or JSON-lines files.

    The ending of the name says which it is (.csv, .tsv or .tab, .jsonl or
    .ndjson). Delimited files begin with a header. Every row that is not an
    empty line becomes an example, or is of a class that was not chosen, or
    stops the reading: nothing is dropped silently. Rows are read one by one,
    and long texts do not stay in memory.

    Labels may be words or numbers. Classes are numbered in numeric order where
    all labels are numbers (1.0 is 1), else in alphabetical order. Values of the
    split column are train, dev (or valid, validation, val) and test, in any
    case. Without that column, each class is split at random; without dev rows,
    a share of each class moves from train to dev. In a folder, each file is a
    split that its name says (``train.csv``, ``news-test.jsonl``), and split
    columns count for nothing.

    Args:
        path: The file, UTF-8, or the folder.
        text: Column of the texts, or several with commas between them
            (``title,description``), whose texts follow each other; by default
            the first of ``text``, ``sentence``, ``review``, ``content``,
            ``body``, ``article``, ``document``, ``data`` that the file has, in
            any case.
        label: Column of the labels; by default ``label``, ``sentiment``,
            ``target``, ``class``, ``topic``, ``category`` or ``newsgroup``. A
            column of the same name with ``_names``, ``_name`` or ``_text``
            behind it comes first: it holds the names of numbered classes.
        split: Column of the splits; by default ``split``, ``exp_split``,
            ``set``, ``fold`` or ``partition``, if there is one.
        dev_fraction: Share of rows for dev, where the file does not say.
        test_fraction: Share of rows for test, where the file does not say.
        n_classes: Number of classes there must be; None for two or more.
        classes: Names of the classes to keep, which are numbered in this
            order; None for all. Rows of others are counted in ``left_out``.
        maximum_words: Longer texts are cut to as many tokens, and ``cut``
            counts them; None for no limit.
        seed: Seed of the random split.

    Returns:
        The data set, named like the folder, or the file without its ending.
        Texts are tokens as :func:`~faithattn.paper.data.vocabulary.tokenize`
        makes them.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If ``classes`` is a string.
        ValueError: If a file cannot be read, a row is malformed (its line is
            named, counted from 1), a label of dev or test is unknown to train,
            the number of classes is wrong, no row has a class to keep, or a
            file of a folder has no split or that of another file.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> rows = "text,label,split\nGood film.,1,train\nA bore,0,train\n"
        >>> rows += "Odd film,0,dev\nFine,1,test\n"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "films.csv")
        ...     _ = file.write_text(rows, encoding="utf-8")
        ...     data = read_texts(file)
        >>> data.name, data.labels, data.train[0].tokens
        ('films', ('0', '1'), ('good', 'film', '.'))
    """
    check_options(dev_fraction, test_fraction, seed)
    chosen = chosen_classes(classes)
    gathering = Gathering(maximum_words)
    rows: list[Row] = []
    for source in sources(path):
        names, records = read_records(source.path)
        columns = _columns(names, text, label, split, source)
        rows.extend(_rows(records, columns, source.split, chosen, gathering))
    place = f"{columns.label!r} of {fspath(path)}"
    if chosen is None:
        rows = merge_numbers(rows)
        labels = class_names(rows, n_classes, place)
    else:
        labels = _chosen(chosen, rows, gathering, n_classes, place)
    index = {name: number for number, name in enumerate(labels)}
    splits = split_rows(rows, dev_fraction, test_fraction, seed)
    return gathering.dataset(
        data_name(path), splits, labels, lambda row: Example(row.tokens, index[row.label])
    )


def _columns(
    names: Sequence[str], text: str | None, label: str | None, split: str | None, source: Source
) -> _Columns:
    """Finds the columns of a file by the names given or by common names."""
    file = fspath(source.path)
    found = _Columns(
        text=text_columns(names, text, file),
        label=require_column(names, "label", label, spelled_out(LABEL_NAMES), file),
        split=split_column(names, split, source),
    )
    used = (*found.text, found.label, found.split)
    check_different(used, "text, label and split", names, file)
    return found


def _rows(
    records: Iterable[Record],
    columns: _Columns,
    split: str | None,
    chosen: tuple[str, ...] | None,
    gathering: Gathering,
) -> Iterator[Row]:
    """Checks the records of a file, and leaves out those of classes that are not chosen."""
    for record in records:
        name = _label(record, columns.label)
        own = split if columns.split is None else split_of(record, columns.split)
        if chosen is not None:
            name = spelled(name)
            if name not in chosen:
                gathering.leave_out(name)
                continue
        tokens = gathering.tokens(record, columns.text, "text")
        yield Row(record.line, record.file, tokens, sys.intern(name), own)


def _label(record: Record, column: str) -> str:
    """Returns the label of a record, which must have one."""
    name = label_of(record, column, "label")
    if name.lower() in ("", "nan"):
        raise ValueError(
            f"label must be given in every row; got {record.values.get(column)!r} in {column!r} "
            f"at {record.place}. Fill in or remove the row."
        )
    return name


def _chosen(
    chosen: tuple[str, ...],
    rows: Sequence[Row],
    gathering: Gathering,
    n_classes: int | None,
    place: str,
) -> tuple[str, ...]:
    """Returns the classes to keep, each of which must have rows."""
    found = {row.label for row in rows} | set(gathering.left_out)
    check_present(chosen, found, place)
    check_number(len(chosen), n_classes, place)
    return chosen
