"""A reader for pairs of texts as SNLI and MultiNLI have them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike, fspath
from typing import NamedTuple

from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.readers.classes import class_names
from faithattn.paper.data.readers.columns import (
    check_different,
    label_of,
    require_column,
    split_column,
    split_of,
    string_of,
)
from faithattn.paper.data.readers.gathering import Gathering, check_options
from faithattn.paper.data.readers.sources import Source, data_name, sources
from faithattn.paper.data.records import Record, read_records
from faithattn.paper.data.splits import Row, split_rows

_USUAL = ("entailment", "neutral", "contradiction")
# What files have where the annotators disagree; -1 where classes are numbered.
_UNDECIDED = ("-", "unknown", "", "-1")


class _Columns(NamedTuple):
    """Which columns hold what."""

    premise: str
    hypothesis: str
    label: str
    split: str | None


def read_pairs(
    path: str | PathLike[str],
    *,
    dev_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> Dataset:
    r"""Reads pairs of premise and hypothesis from JSON-lines, CSV or TSV files.

    The columns are those of SNLI and MultiNLI, ``sentence1``, ``sentence2`` and
    ``gold_label``, or ``premise``, ``hypothesis`` and ``label``, in any case;
    further ones count for nothing, except a split column as for
    :func:`~faithattn.paper.data.readers.read_texts`. Labels are compared in
    lower case. Rows whose label is "-", "unknown", empty or -1, as where the
    annotators disagree, are left out and counted in ``left_out``. The three
    usual labels are numbered entailment, neutral, contradiction, and where two
    of them occur there can be no other; other sets of labels are numbered as
    by ``read_texts``.

    A folder holds one file for each split, named after it
    (``snli_1.0_train.jsonl``). Of two files for one split, such as MultiNLI's
    ``dev_matched`` and ``dev_mismatched``, none is chosen silently: move one
    away, or rename it to serve as test. Without dev, a share of each class
    moves from train to dev; a single file without splits is split at random.

    Args:
        path: The file, UTF-8, or the folder.
        dev_fraction: Share of rows for dev, where the files do not say.
        test_fraction: Share of rows for test, where the files do not say.
        seed: Seed of the random split.

    Returns:
        The data set; in its examples, ``tokens`` are the premise and
        ``question`` is the hypothesis.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file cannot be read, a row is malformed (its line is
            named, counted from 1), or a folder's files do not fit the splits.

    Examples:
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> pairs = [("A man sleeps.", "He runs.", "contradiction")]
        >>> pairs += [("A man sleeps.", "A man rests.", "entailment")]
        >>> pairs += [("A man sleeps.", "He is tired.", "-")]
        >>> keys = ("sentence1", "sentence2", "gold_label")
        >>> lines = [json.dumps(dict(zip(keys, pair))) for pair in 3 * pairs]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "pairs.jsonl")
        ...     _ = file.write_text("\n".join(lines), encoding="utf-8")
        ...     data = read_pairs(file)
        >>> data.labels, data.left_out
        (('entailment', 'contradiction'), {"label '-'": 3})
        >>> data.train[0].tokens, data.train[0].question
        (('a', 'man', 'sleeps', '.'), ('a', 'man', 'rests', '.'))
    """
    check_options(dev_fraction, test_fraction, seed)
    gathering = Gathering()
    rows: list[Row] = []
    for source in sources(path):
        names, records = read_records(source.path)
        columns = _columns(names, source)
        rows.extend(_rows(records, columns, source.split, gathering))
    labels = _class_names(rows, f"{columns.label!r} of {fspath(path)}")
    index = {name: number for number, name in enumerate(labels)}
    splits = split_rows(rows, dev_fraction, test_fraction, seed)
    return gathering.dataset(
        data_name(path),
        splits,
        labels,
        lambda row: Example(row.tokens, index[row.label], question=row.question),
    )


def _columns(names: Sequence[str], source: Source) -> _Columns:
    """Finds the columns of a file by their common names."""
    file = fspath(source.path)
    found = _Columns(
        premise=require_column(names, "premise", None, ("sentence1", "premise"), file),
        hypothesis=require_column(names, "hypothesis", None, ("sentence2", "hypothesis"), file),
        label=require_column(names, "gold_label", None, ("gold_label", "label"), file),
        split=split_column(names, None, source),
    )
    check_different(found, "premise, hypothesis, label and split", names, file)
    return found


def _rows(
    records: Iterable[Record], columns: _Columns, split: str | None, gathering: Gathering
) -> Iterator[Row]:
    """Checks the records of a file, and leaves out those without a label."""
    for record in records:
        for column in columns[:3]:
            if record.values.get(column) is None:
                raise ValueError(
                    f"{column} must be given in every row; got none at {record.place}. "
                    "Correct or remove the row."
                )
        string_of(record, columns.premise, "premise")
        string_of(record, columns.hypothesis, "hypothesis")
        own = split if columns.split is None else split_of(record, columns.split)
        name = label_of(record, columns.label, "gold_label").lower()
        if name in _UNDECIDED:
            gathering.leave_out(name)
            continue
        yield Row(
            record.line,
            record.file,
            gathering.tokens(record, [columns.premise], "premise"),
            sys.intern(name),
            own,
            gathering.tokens(record, [columns.hypothesis], "hypothesis"),
        )


def _class_names(rows: Sequence[Row], place: str) -> tuple[str, ...]:
    """Returns the classes, the usual ones in their usual order."""
    names = class_names(rows, None, place)
    usual = tuple(name for name in _USUAL if name in names)
    if len(usual) < 2:
        return names
    unknown = next((row for row in rows if row.label not in usual), None)
    if unknown is not None:
        raise ValueError(
            f"gold_label must be one of {', '.join(_USUAL)}; got {unknown.label!r} at "
            f"{unknown.place}. Correct or remove the row."
        )
    return usual
