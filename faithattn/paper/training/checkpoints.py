"""Trained models on disk: arrays and JSON in one file, read without executing anything."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.models import (
    PairClassifier,
    PublishedModel,
    QuestionAnswerer,
    TextClassifier,
)
from faithattn.paper.training import TrainingRecord

FORMAT = "faithattn model"
VERSION = 2
_METADATA = "metadata"
_WEIGHTS = "weights."
# Version 1 knew text classifiers of one learned logit, and question answerers; it reads the same.
_READ = (1, VERSION)
_DTYPES = (torch.float16, torch.float32, torch.float64)
_MODELS: Mapping[str, type[PublishedModel]] = {
    "text classifier": TextClassifier,
    "question answerer": QuestionAnswerer,
    "pair classifier": PairClassifier,
}


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        model: The model, on the CPU, in eval mode.
        vocabulary: The vocabulary its ids belong to.
        record: How it was trained; None if that was not saved.
        metadata: What the caller saved with it, as JSON gives it back.
    """

    model: PublishedModel
    vocabulary: Vocabulary
    record: TrainingRecord | None
    metadata: Mapping[str, Any]


def save(
    path: str | PathLike[str],
    model: PublishedModel,
    vocabulary: Vocabulary,
    *,
    record: TrainingRecord | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Writes a model to one file, all or nothing.

    The file is a NumPy ``.npz`` archive without pickled objects: one array a
    weight, and everything else as JSON. It is written beside its place and
    moved there at the end, so an interrupted run leaves the old file whole.

    Args:
        path: The file to write; its folder must exist.
        model: The model; of half, single or double precision.
        vocabulary: The vocabulary its ids belong to.
        record: How it was trained.
        metadata: Anything JSON can hold, such as the data set and its labels.

    Raises:
        TypeError: If the model is of another kind, or the metadata is not JSON.
        ValueError: If the vocabulary does not fit the model, or the weights
            have another precision.

    Examples:
        >>> import tempfile
        >>> vocabulary = Vocabulary.build([["good", "film"]])
        >>> model = TextClassifier(6, embedding_size=4, hidden_size=2)
        >>> ids = torch.tensor([vocabulary.encode(["good", "film"])])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Path(folder, "model.npz"), model, vocabulary, metadata={"data": "films"})
        ...     loaded = load(Path(folder, "model.npz"))
        >>> bool((loaded.model.run(ids).logits == model.run(ids).logits).all()), loaded.metadata
        (True, {'data': 'films'})
    """
    _check_fit(model, vocabulary)
    arrays = {_WEIGHTS + name: _array(name, value) for name, value in model.state_dict().items()}
    arrays[_METADATA] = np.frombuffer(_encoded(model, vocabulary, record, metadata), np.uint8)
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    saved: dict[str, Any] = arrays
    try:
        with unfinished.open("wb") as file:
            np.savez(file, **saved)  # plain numbers only, so nothing to pickle
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: str | PathLike[str]) -> Checkpoint:
    """Reads a model that :func:`save` wrote.

    Nothing in the file is executed, whatever it holds, and the global random
    state is not touched.

    Args:
        path: The file.

    Returns:
        The model with what was saved beside it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, of another version, or something
            else altogether.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"path must name a file; got {file}. Train a model and save it.")
    try:
        arrays = _read(file)
        header = json.loads(arrays.pop(_METADATA).tobytes())
        _check_version(header, file)
        return _restored(header, arrays)
    except _VersionError:
        raise
    except _UNREADABLE as error:
        raise ValueError(
            f"path must name a checkpoint that faithattn saved; got {file}, which is damaged or "
            "something else. Train the model again, or name another file."
        ) from error


class _VersionError(ValueError):
    """The file is sound, but of another version."""


# Everything that reading, decoding and assembling foreign bytes may raise.
_UNREADABLE = (
    OSError,
    EOFError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    AttributeError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


def _check_fit(model: object, vocabulary: Vocabulary) -> None:
    """Raises unless the model is one of the paper's and has the vocabulary's size."""
    if not isinstance(model, PublishedModel):
        raise TypeError(
            f"model must be one of {', '.join(each.__name__ for each in _MODELS.values())}; got "
            f"{type(model).__name__}. Save other models with torch.save."
        )
    if model.embedding.num_embeddings != len(vocabulary):
        raise ValueError(
            f"vocabulary must have the model's {model.embedding.num_embeddings} words; got "
            f"{len(vocabulary)}. Pass the vocabulary the model was trained with."
        )


def _array(name: str, value: Tensor) -> np.ndarray[Any, Any]:
    """Returns a weight as an array."""
    if value.dtype not in _DTYPES:
        raise ValueError(
            f"model must have weights of half, single or double precision; got {value.dtype} for "
            f"{name}. Convert it with .float()."
        )
    array: np.ndarray[Any, Any] = value.detach().cpu().numpy()
    return array


def _encoded(
    model: PublishedModel,
    vocabulary: Vocabulary,
    record: TrainingRecord | None,
    metadata: Mapping[str, Any] | None,
) -> bytes:
    """Returns everything but the weights as JSON."""
    header = {
        "format": FORMAT,
        "version": VERSION,
        "kind": next(kind for kind, cls in _MODELS.items() if isinstance(model, cls)),
        "config": model.config,
        "words": vocabulary.to_list(),
        "record": None if record is None else asdict(record),
        "metadata": dict(metadata or {}),
    }
    try:
        return json.dumps(header).encode()
    except TypeError as error:
        raise TypeError(
            f"metadata must be JSON (numbers, strings, lists, mappings); got {error}. "
            "Convert tensors with .tolist()."
        ) from error


def _read(file: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Returns the arrays of an archive; pickled objects are refused."""
    if not zipfile.is_zipfile(file):
        raise zipfile.BadZipFile("not an archive")
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _check_version(header: Mapping[str, Any], file: Path) -> None:
    """Raises unless the header is of this format and version."""
    if header["format"] != FORMAT:
        raise ValueError("another format")
    if header["version"] not in _READ:
        raise _VersionError(
            f"path must name a checkpoint of version {' or '.join(map(str, _READ))}; got version "
            f"{header['version']} in "
            f"{file}. Load it with the release that saved it."
        )


def _restored(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> Checkpoint:
    """Assembles a checkpoint."""
    vocabulary = Vocabulary.from_list(header["words"])
    # On the meta device no memory is taken and no random number drawn before sizes are known good.
    with torch.device("meta"):
        model = _MODELS[header["kind"]](**header["config"])
    _check_fit(model, vocabulary)
    weights = {
        name.removeprefix(_WEIGHTS): torch.from_numpy(array) for name, array in arrays.items()
    }
    model.load_state_dict(weights, assign=True)
    record = header["record"]
    return Checkpoint(
        model=model.eval(),
        vocabulary=vocabulary,
        record=None if record is None else _record(record),
        metadata=header["metadata"],
    )


def _record(entries: Mapping[str, Any]) -> TrainingRecord:
    """Returns a training record; JSON has lists for its tuples."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in entries.items()
    }
    return TrainingRecord(**values)
