"""One batch as the bytes of a file: NumPy's npz, with a digest of itself as its comment."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from faithattn.audits.part import Column, Part, Ragged
from faithattn.audits.store.manifest import DTYPES

Columns = Sequence[tuple[str, str]]

_HEX = 64  # characters of a SHA-256 digest
_ENCODING = "utf-8", "surrogatepass"  # a tokenizer may split a character
_FILL = {"float64": np.nan, "int64": -1, "bool": False}


class About(NamedTuple):
    """What a file says about its batch.

    Attributes:
        batch: Its number.
        first: Id of its first instance.
        size: Instances.
        digest: Digest of the inputs.
        positions: Names of the scores of positions.
        failures: Why a metric failed, by name.
        seconds: Time each metric took.
        notes: What else should be known, by name.
    """

    batch: int
    first: int
    size: int
    digest: str
    positions: Sequence[str]
    failures: Mapping[str, str]
    seconds: Mapping[str, float]
    notes: Mapping[str, str]


def encode(part: Part, columns: Columns, *, batch: int, first: int, digest: str) -> bytes:
    """The file of a part.

    Raises:
        ValueError: If the part has other columns than those named, or lengths that disagree.
    """
    size = _checked_size(part, columns)
    about = About(
        batch, first, size, digest, list(part.positions), part.failures, part.seconds, part.notes
    )
    text = json.dumps(about._asdict(), default=_plain)
    arrays: dict[str, NDArray[Any]] = {"about": np.frombuffer(text.encode(), np.uint8)}
    for dtype in DTYPES:
        rows = [part.columns[name] for name, kind in columns if kind == dtype]
        arrays[dtype] = np.stack(rows) if rows else np.empty((0, size), dtype)
    if part.positions:
        arrays |= _encoded_positions(part.positions)
    if part.tokens is not None:
        arrays |= _encoded_tokens(part.tokens)
    return _zipped(arrays)


def is_whole(data: bytes) -> bool:
    """Whether the bytes are those that were written, all of them."""
    return data[-_HEX:] == hashlib.sha256(data[:-_HEX]).hexdigest().encode()


def about(data: bytes) -> About:
    """What a whole file says about its batch."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return _about(archive)


def matrices(data: bytes) -> tuple[About, dict[str, Column]]:
    """The columns of a whole file by type, ``(columns, B)`` each, and what it says of itself."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return _about(archive), {dtype: archive[dtype] for dtype in DTYPES}


def decode(data: bytes, columns: Columns) -> tuple[About, Part]:
    """The part of a whole file."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        known = _about(archive)
        rows = {dtype: iter(archive[dtype]) for dtype in DTYPES}
        part = Part(
            {name: next(rows[dtype]) for name, dtype in columns},
            _decoded_positions(archive, known.positions) if known.positions else {},
            _decoded_tokens(archive) if "text" in archive else None,
            known.failures,
            known.seconds,
            known.notes,
        )
    return known, part


def blank_matrices(columns: Columns, *, batch: int, first: int, size: int) -> dict[str, Column]:
    """What stands in the columns, ``(columns, B)`` by type, where a batch failed as a whole.

    Nothing is known but the numbers of batch and instances: nan, -1 or False.
    """
    known = {"instance": np.arange(first, first + size), "batch": np.full(size, batch)}
    found: dict[str, list[Column]] = {dtype: [] for dtype in DTYPES}
    for name, dtype in columns:
        found[dtype].append(known.get(name, np.full(size, _FILL[dtype])).astype(dtype))
    return {
        dtype: np.stack(rows) if rows else np.empty((0, size), dtype)
        for dtype, rows in found.items()
    }


def blank(columns: Columns, reason: str, *, batch: int, first: int, size: int) -> Part:
    """The part of a batch that failed as a whole."""
    by_type = blank_matrices(columns, batch=batch, first=first, size=size)
    rows = {dtype: iter(matrix) for dtype, matrix in by_type.items()}
    return Part({name: next(rows[dtype]) for name, dtype in columns}, failures={"": reason})


def _checked_size(part: Part, columns: Columns) -> int:
    """The instances of a part that has what the manifest announced."""
    size = len(part)
    expected = {name: (dtype, (size,)) for name, dtype in columns}
    found = {name: (value.dtype.name, value.shape) for name, value in part.columns.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"columns must be those of the manifest, one value an instance; got "
                f"{_described(found.get(name))} for {name}. Give {_described(expected.get(name))}."
            )
    for name, ragged in part.positions.items():
        offsets = ragged.offsets
        fits = len(offsets) == size + 1 and offsets[0] == 0 and offsets[-1] == len(ragged.values)
        if not fits or (np.diff(offsets) < 0).any() or ragged.values.dtype != np.float32:
            raise ValueError(
                f"positions must be float32 rows, one an instance; got {ragged.values.dtype} and "
                f"offsets {offsets.tolist()} for {name}. Give {size} rows."
            )
    if part.tokens is not None and len(part.tokens) != size:
        raise ValueError(
            f"tokens must be one row an instance; got {len(part.tokens)} rows for {size}. "
            "Give a row for each, or None."
        )
    return size


def _described(column: tuple[str, tuple[int, ...]] | None) -> str:
    return "none" if column is None else f"{column[0]} {column[1]}"


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"seconds must be numbers; got {type(value).__name__}. Give floats.")


def _zipped(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An uncompressed npz whose comment is the digest of all that comes before it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = b"0" * _HEX
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            # A ZipInfo has no time of day: equal content, equal bytes.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    data = buffer.getvalue()[:-_HEX]
    return data + hashlib.sha256(data).hexdigest().encode()


def _about(archive: Mapping[str, NDArray[Any]]) -> About:
    return About(**json.loads(archive["about"].tobytes()))


def _encoded_positions(positions: Mapping[str, Ragged]) -> dict[str, NDArray[Any]]:
    """All scores one after the other; row b of score k is between its offsets k, b and k, b + 1."""
    starts = np.cumsum([0, *(len(each.values) for each in positions.values())])
    return {
        "scores": np.concatenate([each.values for each in positions.values()]),
        "score_offsets": np.stack(
            [each.offsets + start for each, start in zip(positions.values(), starts, strict=False)]
        ).astype(np.int64),
    }


def _decoded_positions(
    archive: Mapping[str, NDArray[Any]], names: Sequence[str]
) -> dict[str, Ragged]:
    scores = archive["scores"]
    return {
        name: Ragged(scores[offsets[0] : offsets[-1]], offsets - offsets[0])
        for name, offsets in zip(names, archive["score_offsets"], strict=True)
    }


def _encoded_tokens(rows: Sequence[Sequence[str]]) -> dict[str, NDArray[Any]]:
    """Bytes of all tokens, where each token begins in them, and each row in the tokens."""
    texts = [token.encode(*_ENCODING) for row in rows for token in row]
    return {
        "text": np.frombuffer(b"".join(texts), np.uint8),
        "text_offsets": np.cumsum([0, *map(len, texts)], dtype=np.int64),
        "text_rows": np.cumsum([0, *map(len, rows)], dtype=np.int64),
    }


def _decoded_tokens(archive: Mapping[str, NDArray[Any]]) -> tuple[tuple[str, ...], ...]:
    text = archive["text"].tobytes()
    ends = archive["text_offsets"].tolist()
    tokens = [text[start:end].decode(*_ENCODING) for start, end in pairwise(ends)]
    rows = archive["text_rows"].tolist()
    return tuple(tuple(tokens[a:b]) for a, b in pairwise(rows))
