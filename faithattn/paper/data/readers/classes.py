"""The classes that the labels of a file name, and their order."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from decimal import Decimal

from faithattn.paper.data.splits import Row

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?", re.ASCII)


def class_names(rows: Sequence[Row], n_classes: int | None, place: str) -> tuple[str, ...]:
    """Returns the classes of the rows, two or more, in order."""
    names = {row.label for row in rows}
    if len(names) < 2:
        found = f"only {names.pop()!r}" if names else "none"
        raise ValueError(
            f"label must hold two classes or more; got {found} in {place}. "
            "Check the file, and which column was read."
        )
    check_number(len(names), n_classes, place)
    return in_order(names)


def check_number(count: int, n_classes: int | None, place: str) -> None:
    """Raises unless there are as many classes as there must be."""
    if n_classes is not None and count != n_classes:
        raise ValueError(
            f"label must hold {n_classes} classes; got {count} in {place}. Keep or merge "
            "classes, or name the right column with label=."
        )


def in_order(names: Collection[str]) -> tuple[str, ...]:
    """Returns names in numeric order where all are numbers, else in alphabetical order."""
    if all(map(_NUMBER.fullmatch, names)):
        return tuple(sorted(names, key=lambda name: (Decimal(name), name)))
    return tuple(sorted(names))


def merge_numbers(rows: list[Row]) -> list[Row]:
    """Spells equal numbers alike (1 and 1.0) where all labels are numbers."""
    names = {row.label for row in rows}
    if not all(map(_NUMBER.fullmatch, names)):
        return rows
    spelling = {name: spelled(name) for name in names}
    return [row._replace(label=spelling[row.label]) for row in rows]


def spelled(name: str) -> str:
    """Returns a number without needless decimals, any other name as it is.

    Examples:
        >>> spelled("1.0"), spelled("0.50"), spelled("pos")
        ('1', '0.5', 'pos')
    """
    if not _NUMBER.fullmatch(name):
        return name
    value = Decimal(name)
    return str(int(value)) if value == int(value) else format(value.normalize(), "f")


def chosen_classes(classes: Sequence[str] | None) -> tuple[str, ...] | None:
    """Returns the classes to keep, two or more different ones; None for all."""
    if classes is None:
        return None
    if isinstance(classes, str):
        raise TypeError(f"classes must be a sequence of names; got {classes!r}. Pass a tuple.")
    names = tuple(spelled(str(name).strip()) for name in classes)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"classes must name two different classes or more; got {names}. "
            "Leave classes out to keep all of them."
        )
    return names


def check_present(chosen: Sequence[str], found: Collection[str], place: str) -> None:
    """Raises if no row has one of the classes to keep."""
    missing = [name for name in chosen if name not in found]
    if missing:
        raise ValueError(
            f"classes must name classes that rows have; got {missing[0]!r}, and {place} has "
            f"{', '.join(map(repr, in_order(found)))}. Choose among these."
        )
