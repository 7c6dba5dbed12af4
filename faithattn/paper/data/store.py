"""Tokens of many texts: the first in memory, the rest as numbers in a temporary file."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray

_NUMBER = np.dtype(np.int32)


class _Numbers(dict[str, int]):
    """The number of each word; a new word gets the next one."""

    def __init__(self, words: list[str]) -> None:
        super().__init__()
        self._words = words

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self._words)
        self._words.append(word)
        return number


class TokenStore:
    """Keeps the tokens of any number of texts in bounded memory.

    Each word is kept once, so memory grows with the number of different words
    (about 150 bytes each). The tokens of the first texts are tuples; once there
    are ``in_memory`` of them, those of later texts are 4 bytes each in a
    temporary file that has no name and vanishes with the store.

    Args:
        in_memory: Number of tokens that tuples hold, 8 bytes each.

    Examples:
        >>> store = TokenStore(in_memory=2)
        >>> store.add(["a", "film"]), store.add(["a", "good", "film"])
        (('a', 'film'), StoredTokens('a', 'good', 'film'))
    """

    def __init__(self, *, in_memory: int = 500_000) -> None:
        self._room = in_memory
        self._words: list[str] = []
        self._numbers = _Numbers(self._words)
        self._file: IO[bytes] | None = None
        self._stored = 0
        self._mapped: NDArray[np.int32] = np.empty(0, _NUMBER)

    def add(self, tokens: Iterable[str]) -> Sequence[str]:
        """Keeps the tokens of one text.

        Args:
            tokens: The tokens in order.

        Returns:
            The same tokens: a tuple while there is room in memory, then
            :class:`StoredTokens`, which behave like the tuple.

        Raises:
            OSError: If the temporary folder cannot take the file.
        """
        numbers = [self._numbers[token] for token in tokens]
        if len(numbers) <= self._room:
            self._room -= len(numbers)
            return tuple(map(self._words.__getitem__, numbers))
        # Later texts follow it, short ones too: what is in memory is the beginning.
        self._room = 0
        start = self._stored
        self._append(np.array(numbers, _NUMBER).tobytes())
        self._stored += len(numbers)
        return StoredTokens(self, start, self._stored)

    def word(self, place: int) -> str:
        """Returns the token at a place of the file."""
        return self._words[int(self._map(place + 1)[place])]

    def words(self, start: int, stop: int) -> Iterator[str]:
        """Returns the tokens from one place of the file to before another."""
        return map(self._words.__getitem__, self._map(stop)[start:stop].tolist())

    def _append(self, data: bytes) -> None:
        """Writes to the end of the file.

        Nothing stays in the buffer, which a forked process would write again.
        """
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the store
                weakref.finalize(self, _close, self._file.close)
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise OSError(
                f"the temporary folder must hold the tokens of large files; got {error.strerror} "
                f"in {tempfile.gettempdir()}. Free space there, or set TMPDIR to another folder."
            ) from error

    def _map(self, stop: int) -> NDArray[np.int32]:
        """Returns the numbers of the file, of which there are ``stop`` at least.

        A map is shared by forked processes and has no position that they could
        move for each other, as a file has.
        """
        if stop > len(self._mapped) and self._file is not None:
            self._mapped = np.memmap(self._file, _NUMBER, "r", shape=(self._stored,))
        return self._mapped


class StoredTokens(Sequence[str]):
    """The tokens of one text in a :class:`TokenStore`, read when they are asked for.

    Its length takes no reading. It equals the tuple of the same tokens and has
    its hash; a slice is a tuple, and so is what comes out of a pickle.
    """

    __slots__ = ("_start", "_stop", "_store")

    def __init__(self, store: TokenStore, start: int, stop: int) -> None:
        self._store = store
        self._start = start
        self._stop = stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[str]:
        return self._store.words(self._start, self._stop)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self)[index]
        return self._store.word(range(self._start, self._stop)[index])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StoredTokens | tuple):
            return NotImplemented
        return len(self) == len(other) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"StoredTokens{tuple(self)!r}"

    def __reduce__(self) -> tuple[type[tuple[Any, ...]], tuple[tuple[str, ...]]]:
        return tuple, (tuple(self),)


def _close(close: Callable[[], None]) -> None:
    """Closes a file of which nothing is needed any more, even if it could not be written."""
    with suppress(OSError):
        close()
