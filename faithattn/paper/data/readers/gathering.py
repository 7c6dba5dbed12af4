"""What all readers do with their rows: tokens, counts, and the data set in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain, islice

from faithattn._checks import require_count
from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.readers.columns import string_of
from faithattn.paper.data.records import Record
from faithattn.paper.data.splits import Row, Splits, check_fractions
from faithattn.paper.data.store import TokenStore
from faithattn.paper.data.vocabulary import tokenize


class Gathering:
    """The tokens of the rows so far, and what was left out or cut.

    Attributes:
        left_out: How many rows were left out, by their label.
        cut: How many texts were cut.
    """

    def __init__(self, maximum_words: int | None = None) -> None:
        if maximum_words is not None:
            require_count("maximum_words", maximum_words)
        self._maximum = maximum_words
        self._store = TokenStore()
        self.left_out: Counter[str] = Counter()
        self.cut = 0

    def tokens(self, record: Record, columns: Sequence[str], argument: str) -> Sequence[str]:
        """Keeps the tokens of a row's texts, which follow each other and must hold one."""
        texts = [string_of(record, column, argument) for column in columns]
        tokens = list(chain.from_iterable(map(tokenize, texts)))
        if not tokens:
            values = [record.values.get(column) for column in columns]
            raise ValueError(
                f"{argument} must hold a word in every row; got "
                f"{' and '.join(map(repr, values))} in {' and '.join(map(repr, columns))} at "
                f"{record.place}. Fill in or remove the row."
            )
        if self._maximum is not None and len(tokens) > self._maximum:
            self.cut += 1
        return self._store.add(islice(tokens, self._maximum))

    def leave_out(self, label: str) -> None:
        """Counts a row that is left out for its label."""
        self.left_out[label] += 1

    def dataset(
        self,
        name: str,
        splits: Splits,
        labels: tuple[str, ...],
        example: Callable[[Row], Example],
    ) -> Dataset:
        """Makes the data set of the rows."""
        train, dev, test = (tuple(map(example, part)) for part in splits)
        left_out = {f"label {each!r}": count for each, count in sorted(self.left_out.items())}
        return Dataset(name, train, dev, test, labels, left_out, self.cut)


def check_options(dev_fraction: float, test_fraction: float, seed: int) -> None:
    """Raises unless the options that all readers have are in range."""
    check_fractions(dev_fraction, test_fraction)
    require_count("seed", seed, least=0)
