"""Pretrained word vectors from a text file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from os import PathLike, fspath
from typing import NamedTuple

import torch
from torch import Tensor

from faithattn.paper.data.files import numbered_lines
from faithattn.paper.data.ids import END, PADDING
from faithattn.paper.data.vocabulary import Vocabulary

_LONGEST_LINE = 2**20  # a row of 16,000 dimensions is still shorter


class Vectors(NamedTuple):
    """Word vectors for a vocabulary.

    Attributes:
        matrix: One row per word, shape ``(V, E)``, float32; padding is zero.
        coverage: Share of the words, special tokens not counted, that the
            file has a vector for, above 0 to 1.
    """

    matrix: Tensor
    coverage: float


class _Row(NamedTuple):
    """One row of a vector file: its line number, its word and its numbers as text."""

    line: int
    word: str
    numbers: list[str]


def load_vectors(
    path: str | PathLike[str],
    vocabulary: Vocabulary,
    *,
    scale: float | None = None,
    seed: int = 0,
) -> Vectors:
    r"""Reads the vectors of a vocabulary's words from a word2vec or GloVe text file.

    Each line is a word and its numbers, separated by spaces or tabs; a first
    line of two whole numbers is a header (rows, dimensions). Words may hold
    spaces: the last fields are the numbers. The first row of a repeated word
    counts. The file is read line by line and never held whole. Words without
    a vector, and the special tokens other than padding, are drawn from a
    normal distribution with mean 0 and the standard deviation of the entries
    found.

    Args:
        path: The file, UTF-8.
        vocabulary: The words to look for, spelled as in the vocabulary (which
            ``tokenize`` makes lower case).
        scale: Standard deviation the found entries are brought to by one
            common factor, positive; None leaves them as they are.
        seed: Seed of the draws; the global generators are not touched.

    Returns:
        The matrix and the share of words found.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a row is malformed (its line is named), the header
            announces another number of rows, or no word has a vector.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> vocabulary = Vocabulary.build([["good", "film"], ["odd"]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "vectors.txt")
        ...     _ = path.write_text("film 0.5 -0.5\ngood 1 0\n", encoding="utf-8")
        ...     matrix, coverage = load_vectors(path, vocabulary)
        >>> matrix[4:6]
        tensor([[ 0.5000, -0.5000],
                [ 1.0000,  0.0000]])
        >>> round(coverage, 2)
        0.67
    """
    if scale is not None and not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be positive and finite; got {scale}. Leave it out to keep.")
    found = _found(path, vocabulary)
    if not found:
        raise ValueError(
            f"path must hold a vector for some word of the vocabulary; got none in {fspath(path)}. "
            "Check that it is a vector file of the same language, in lower case."
        )
    rows = torch.stack(list(found.values()))
    spread = float(rows.std(correction=0))
    if scale is not None:
        rows, spread = _rescaled(rows, spread, scale, fspath(path)), scale
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(len(vocabulary), rows.shape[1], generator=generator) * spread
    matrix[list(found)] = rows
    matrix[PADDING] = 0
    return Vectors(matrix, len(found) / (len(vocabulary) - END - 1))


def _rescaled(rows: Tensor, spread: float, scale: float, path: str) -> Tensor:
    """Brings the entries to the standard deviation asked for."""
    if spread == 0:
        raise ValueError(
            f"scale must be None where all entries are equal; got {scale} for {path}. "
            "Check the vectors, or leave scale out."
        )
    return rows * (scale / spread)


def _found(path: str | PathLike[str], vocabulary: Vocabulary) -> dict[int, Tensor]:
    """Returns the vector of each word that the file has, by id."""
    found: dict[int, Tensor] = {}
    for row in _rows(path):
        if row.word in vocabulary:
            number = vocabulary.encode([row.word])[1]
            if number not in found:
                found[number] = _vector(row, path)
    return found


def _rows(path: str | PathLike[str]) -> Iterator[_Row]:
    """Yields the rows of a vector file, checking that all have one number of fields."""
    announced, size, count, line = None, 0, 0, 0
    # Garbled words of other languages are common in such files and match no word.
    for line, text in numbered_lines(path, errors="replace", longest=_LONGEST_LINE):
        plain = text.replace("\t", " ").rstrip(" \r\n")
        if line == 1:
            announced = _header(plain)
            size = announced[1] if announced else _trailing_numbers(plain)
            if announced:
                continue
        parts = plain.rsplit(" ", size) if size else []
        if len(parts) != size + 1 or not parts[0]:
            raise ValueError(
                f"path must hold a word and {size or 'its'} numbers in each row; got "
                f"{len(plain.split())} fields at line {line} of {fspath(path)}. "
                "Correct the row; the file must be in text format."
            )
        count += 1
        yield _Row(line, parts[0], parts[1:])
    if announced and count != announced[0]:
        raise ValueError(
            f"path must hold the {announced[0]} rows its header announces; got {count} in "
            f"{fspath(path)}. The file may be cut off: fetch it again."
        )


def _header(line: str) -> tuple[int, int] | None:
    """Returns the rows and dimensions a header announces, None if the line is none."""
    fields = line.split()
    if len(fields) != 2 or not all(field.isascii() and field.isdigit() for field in fields):
        return None
    return int(fields[0]), int(fields[1])


def _trailing_numbers(line: str) -> int:
    """Returns how many fields at the end of a line are numbers, its first field aside."""
    count = 0
    for text in reversed(line.split(" ")[1:]):
        if _number(text) is None:
            break
        count += 1
    return count


def _number(text: str) -> float | None:
    """Returns a finite number, None if the text is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _vector(row: _Row, path: str | PathLike[str]) -> Tensor:
    """Returns the numbers of a row."""
    values = [_number(text) for text in row.numbers]
    for text, value in zip(row.numbers, values, strict=True):
        if value is None:
            raise ValueError(
                f"path must hold finite numbers; got {text!r} at line {row.line} of "
                f"{fspath(path)}. Correct the row."
            )
    return torch.tensor(values, dtype=torch.float32)
