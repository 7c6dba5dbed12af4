"""Which column of a file holds what, and what its rows hold there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import fspath

from faithattn.paper.data.readers.sources import Source
from faithattn.paper.data.records import Record
from faithattn.paper.data.splits import SPLIT_NAMES

_TEXT_NAMES = ("text", "sentence", "review", "content", "body", "article", "document", "data")
LABEL_NAMES = ("label", "sentiment", "target", "class", "topic", "category", "newsgroup")
_SPLIT_COLUMNS = ("split", "exp_split", "set", "fold", "partition")
# Of a column of class numbers and one of the classes' names, the names say more.
_NAMED = ("_names", "_name", "_text")


def spelled_out(names: Iterable[str]) -> tuple[str, ...]:
    """Puts the names of columns of words before those of columns of numbers.

    Examples:
        >>> spelled_out(["target"])
        ('target_names', 'target_name', 'target_text', 'target')
    """
    return tuple(f"{name}{ending}" for name in names for ending in (*_NAMED, ""))


def find_column(
    names: Sequence[str], argument: str, given: str | None, common: Iterable[str], file: str
) -> str | None:
    """Returns the column given, or the first common one in any case, or None."""
    if given is not None:
        _check_column(names, argument, given, file)
        return given
    spelled = {name.lower(): name for name in reversed(names)}
    return next((spelled[name] for name in common if name in spelled), None)


def require_column(
    names: Sequence[str], argument: str, given: str | None, common: Iterable[str], file: str
) -> str:
    """Returns the column for an argument that the file must have."""
    common = tuple(common)
    column = find_column(names, argument, given, common, file)
    if column is None:
        plain = [name for name in common if not name.endswith(_NAMED)]
        raise ValueError(
            f"{argument} must name a column of {file}; got none that is called "
            f"{' or '.join(plain)} among {list(names)}. Name the column "
            "(a delimited file begins with a header)."
        )
    return column


def several_columns(names: Sequence[str], argument: str, given: str, file: str) -> tuple[str, ...]:
    """Returns the columns whose names are given with commas between them."""
    if given in names:
        return (given,)
    columns = tuple(name.strip() for name in given.split(","))
    for column in columns:
        _check_column(names, argument, column, file)
    return columns


def text_columns(names: Sequence[str], given: str | None, file: str) -> tuple[str, ...]:
    """Returns the columns whose texts follow each other."""
    if given is None:
        return (require_column(names, "text", None, _TEXT_NAMES, file),)
    return several_columns(names, "text", given, file)


def split_column(names: Sequence[str], given: str | None, source: Source) -> str | None:
    """Returns the column of the splits; None if there is none or the file is one split."""
    if source.split is None:
        return find_column(names, "split", given, _SPLIT_COLUMNS, fspath(source.path))
    if given is not None:
        raise ValueError(
            f"split must be left out for a folder, whose files are the splits; got {given!r}. "
            "Leave it out, or name one file."
        )
    return None


def check_different(
    used: Sequence[str | None], arguments: str, names: Sequence[str], file: str
) -> None:
    """Raises if one column is to hold two things."""
    if len(set(used)) < len(used):
        raise ValueError(
            f"{arguments} must name different columns; got {tuple(used)}. {file} has {list(names)}."
        )


def string_of(record: Record, column: str, argument: str) -> str:
    """Returns a text of a row; empty if there is none."""
    value = record.values.get(column)
    if value is not None and not isinstance(value, str):
        raise ValueError(
            f"{argument} must be a string in every row; got {type(value).__name__} in {column!r} "
            f"at {record.place}. Correct the row."
        )
    refuse_nul(record, column, argument)
    return value or ""


def label_of(record: Record, column: str, argument: str) -> str:
    """Returns a class of a row as a string; empty if there is none."""
    value = record.values.get(column)
    if value is not None and not isinstance(value, str | bool | int | float):
        raise ValueError(
            f"{argument} must be a word or a number in every row; got {type(value).__name__} in "
            f"{column!r} at {record.place}. Correct the row."
        )
    refuse_nul(record, column, argument)
    return "" if value is None else str(value).strip()


def split_of(record: Record, column: str) -> str:
    """Returns the split of a row."""
    refuse_nul(record, column, "split")
    value = record.values.get(column)
    name = SPLIT_NAMES.get(value.strip().lower()) if isinstance(value, str) else None
    if name is None:
        raise ValueError(
            f"split must be train, dev or test in every row; got {value!r} in {column!r} at "
            f"{record.place}. Correct the row, or name the right column with split=."
        )
    return name


def refuse_nul(record: Record, column: str, argument: str) -> None:
    """Raises if a value holds the character that damaged files are full of."""
    value = record.values.get(column)
    if isinstance(value, str) and "\0" in value:
        raise ValueError(
            f"{argument} must hold no NUL character; got one in {column!r} at {record.place}. "
            "Remove it, and check whether the file is damaged."
        )


def _check_column(names: Sequence[str], argument: str, given: str, file: str) -> None:
    """Raises unless the file has a column."""
    if given not in names:
        raise ValueError(
            f"{argument} must name a column of {file}; got {given!r}, not among "
            f"{list(names)}. Use one of these."
        )
