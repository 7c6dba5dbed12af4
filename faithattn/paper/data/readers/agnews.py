"""A reader for AG News as Zhang et al. published it, and what there is to know of its format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike, fspath
from pathlib import Path

from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.readers.classes import (
    check_present,
    chosen_classes,
    class_names,
)
from faithattn.paper.data.readers.gathering import Gathering, check_options
from faithattn.paper.data.readers.sources import data_name, sources
from faithattn.paper.data.records import Record, not_empty, read_fields
from faithattn.paper.data.splits import Row, split_rows

_CLASSES = ("World", "Sports", "Business", "Sci/Tech")
_COLUMNS = ("class", "title", "description")
_HEADER = ["class index", "title", "description"]
# The files' own note says that a line break is a backslash and an n; in most of
# the texts, it is the backslash alone, before whatever the next line begins with
# ("dwindling\band"). An n before a lower-case letter is of the next line's word.
_LINE_BREAK = re.compile(r"\\n(?![a-z])|\\")


def read_agnews(
    path: str | PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    dev_fraction: float = 0.1,
    test_fraction: float = 0.1,
    maximum_words: int | None = None,
    seed: int = 0,
) -> Dataset:
    r"""Reads the AG News topics as published: ``train.csv`` and ``test.csv``.

    Each row is a class from 1 to 4, a title and a description, which follow
    each other as one text. Backslashes, which stand for line breaks, separate
    words; HTML entities stay as they are. The header that some copies have,
    ``Class Index,Title,Description``, is no row; none is needed.

    Args:
        path: The folder of both files, or one file, which is split at random.
        classes: Classes to keep, numbered in this order, of ``World``,
            ``Sports``, ``Business`` and ``Sci/Tech``; None for all that occur.
            The published study has ``("World", "Business")``. Rows of others
            are counted in ``left_out``.
        dev_fraction: Share of each class for dev, taken from train.
        test_fraction: Share of each class for test, where there is one file.
        maximum_words: Longer texts are cut to as many tokens, and ``cut``
            counts them; None for no limit.
        seed: Seed of the random split.

    Returns:
        The data set.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If ``classes`` is a string.
        ValueError: If a file cannot be read, a row is malformed (its line is
            named, counted from 1), or a class is unknown or has no row.

    References:
        Zhang, Zhao, LeCun (2015), "Character-level convolutional networks for
        text classification", arXiv 1509.01626.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> rows = '"3","Bears back","A dwindling\\band"\n"1","Talks","Both agree"\n'
        >>> rows += '"2","Final","Home win"\n'
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("train.csv", "test.csv"):
        ...         _ = Path(folder, name).write_text(2 * rows, encoding="utf-8")
        ...     data = read_agnews(folder, classes=("World", "Business"))
        >>> data.labels, data.left_out
        (('World', 'Business'), {"label 'Sports'": 4})
        >>> data.test[0].label, data.test[0].tokens
        (1, ('bears', 'back', 'a', 'dwindling', 'band'))
    """
    check_options(dev_fraction, test_fraction, seed)
    chosen = chosen_classes(classes)
    _check_known(chosen or ())
    gathering = Gathering(maximum_words)
    rows: list[Row] = []
    for source in sources(path, (".csv",)):
        records = not_empty(_records(source.path), source.path)
        rows.extend(_rows(records, source.split, chosen, gathering))
    labels = _labels(chosen, rows, gathering, fspath(path))
    index = {name: number for number, name in enumerate(labels)}
    splits = split_rows(rows, dev_fraction, test_fraction, seed)
    return gathering.dataset(
        data_name(path), splits, labels, lambda row: Example(row.tokens, index[row.label])
    )


def _check_known(names: Sequence[str]) -> None:
    """Raises if AG News has no such class."""
    for name in names:
        if name not in _CLASSES:
            raise ValueError(
                f"classes must be among {', '.join(_CLASSES)}; got {name!r}. Choose among these."
            )


def _records(path: str | PathLike[str]) -> Iterator[Record]:
    """Yields the rows of a file by what their columns hold."""
    file = fspath(path)
    if Path(path).suffix.lower() != ".csv":
        raise ValueError(
            f"path must end in .csv; got {file}. Use read_texts for files of another form."
        )
    for number, (line, fields) in enumerate(read_fields(path, ",")):
        if number == 0 and [field.strip().lower() for field in fields] == _HEADER:
            continue
        if len(fields) != len(_COLUMNS):
            raise ValueError(
                "path must hold three columns in each row, the class, the title and the "
                f"description; got {len(fields)} at line {line} of {file}. Correct the row, or "
                "use read_texts for a file of other columns."
            )
        texts = [_LINE_BREAK.sub(" ", field) for field in fields]
        yield Record(line, dict(zip(_COLUMNS, texts, strict=True)), file)


def _rows(
    records: Iterable[Record],
    split: str | None,
    chosen: tuple[str, ...] | None,
    gathering: Gathering,
) -> Iterator[Row]:
    """Checks the rows of a file, and leaves out those of classes that are not chosen."""
    for record in records:
        name = _class(record)
        if chosen is not None and name not in chosen:
            gathering.leave_out(name)
            continue
        tokens = gathering.tokens(record, _COLUMNS[1:], "title and description")
        yield Row(record.line, record.file, tokens, name, split)


def _class(record: Record) -> str:
    """Returns the name of a row's class."""
    number = str(record.values["class"]).strip()
    if number not in ("1", "2", "3", "4"):
        raise ValueError(
            f"class must be 1, 2, 3 or 4 in every row; got {number!r} at {record.place}. Correct "
            "the row, or use read_texts for a file with a header of its own."
        )
    return _CLASSES[int(number) - 1]


def _labels(
    chosen: tuple[str, ...] | None, rows: Sequence[Row], gathering: Gathering, file: str
) -> tuple[str, ...]:
    """Returns the classes chosen, or those that occur in the published order."""
    if chosen is not None:
        check_present(chosen, {row.label for row in rows} | {*gathering.left_out}, file)
        return chosen
    names = class_names(rows, None, file)
    return tuple(name for name in _CLASSES if name in names)
