"""Which rows are for training, for development and for testing."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "development", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class Row(NamedTuple):
    """One checked row: its place, its tokens, its class or labels, its split if given.

    The class also says which rows are split alike; rows with several labels
    share one that is empty.
    """

    line: int
    file: str
    tokens: Sequence[str]
    label: str = ""
    split: str | None = None
    question: Sequence[str] = ()
    labels: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where the row is, for errors."""
        return f"line {self.line} of {self.file}"


class Splits(NamedTuple):
    """The rows of each split, in the order of the file."""

    train: list[Row]
    dev: list[Row]
    test: list[Row]


def check_fractions(dev_fraction: float, test_fraction: float) -> None:
    """Raises unless both fractions are positive and leave something to train on."""
    for name, value in (("dev_fraction", dev_fraction), ("test_fraction", test_fraction)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must lie between 0 and 1; got {value}. Use a share like 0.1.")
    if dev_fraction + test_fraction >= 1:
        raise ValueError(
            f"dev_fraction and test_fraction must add up to less than 1; got {dev_fraction} and "
            f"{test_fraction}. Leave rows to train on."
        )


def split_rows(rows: Sequence[Row], dev_fraction: float, test_fraction: float, seed: int) -> Splits:
    """Splits as the rows say, or at random where they say nothing.

    Either all of the rows have a split or none has.
    """
    if rows and rows[0].split is None:
        return made_splits(rows, dev_fraction, test_fraction, seed)
    return given_splits(rows, dev_fraction, seed)


def given_splits(rows: Sequence[Row], dev_fraction: float, seed: int) -> Splits:
    """Splits as the rows say, taking dev out of train where no row is for dev."""
    splits = Splits(*([row for row in rows if row.split == name] for name in Splits._fields))
    for name, part in (("train", splits.train), ("test", splits.test)):
        if not part:
            raise ValueError(
                f"split must give rows to {name}; got none. Mark some, or leave the split out "
                "to have one made."
            )
    known = {row.label for row in splits.train}
    for row in splits.dev + splits.test:
        if row.label not in known:
            raise ValueError(
                f"label must be one of the classes of the training rows, {_some(known)}; got the "
                f"unknown {row.label!r} at {row.place}. Correct it, or add training rows."
            )
    if splits.dev:
        return splits
    train, dev = _dev_from_train(splits.train, dev_fraction, seed)
    return Splits(train, dev, splits.test)


def made_splits(
    rows: Sequence[Row], dev_fraction: float, test_fraction: float, seed: int
) -> Splits:
    """Splits at random with the class shares of the whole in each part."""
    train, dev, test = [], [], []
    for label, members in _shuffled_classes(rows, seed):
        if len(members) < 3:
            subject = "label must give each class" if label else "path must hold"
            named = f" of {label!r}" if label else ""
            raise ValueError(
                f"{subject} 3 rows or more to split; got {len(members)}{named}. "
                "Add rows, or a split column."
            )
        n_test = min(_share(members, test_fraction), len(members) - 2)
        n_dev = min(_share(members, dev_fraction), len(members) - n_test - 1)
        test += members[:n_test]
        dev += members[n_test : n_test + n_dev]
        train += members[n_test + n_dev :]
    return Splits(_in_order(train), _in_order(dev), _in_order(test))


def _dev_from_train(rows: Sequence[Row], fraction: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Moves a share of each class from train to dev, leaving one row at least."""
    train, dev = [], []
    for _, members in _shuffled_classes(rows, seed):
        count = min(_share(members, fraction), len(members) - 1)
        dev += members[:count]
        train += members[count:]
    if not dev:
        raise ValueError(
            f"split must leave rows for dev; got {len(rows)} training rows, one of each class. "
            "Add rows, or mark some as dev."
        )
    return _in_order(train), _in_order(dev)


def _in_order(rows: Iterable[Row]) -> list[Row]:
    """Returns the rows of one file in its order."""
    return sorted(rows, key=lambda row: row.line)


def _shuffled_classes(rows: Sequence[Row], seed: int) -> list[tuple[str, list[Row]]]:
    """Returns the rows of each class in random order."""
    classes: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        classes[row.label].append(row)
    rng = random.Random(seed)
    ordered = sorted(classes.items())
    for _, members in ordered:
        rng.shuffle(members)
    return ordered


def _share(members: Sequence[Row], fraction: float) -> int:
    """Returns a rounded share of the rows of a class, one at least."""
    return max(1, round(len(members) * fraction))


def _some(names: Iterable[str]) -> str:
    """Returns the first few names in quotes."""
    ordered = sorted(names)
    return ", ".join(map(repr, ordered[:5])) + (", ..." if len(ordered) > 5 else "")
