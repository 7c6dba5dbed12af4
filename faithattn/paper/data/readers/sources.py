"""The files that a path stands for: one, or those of a folder named after the splits."""

from __future__ import annotations

import re
from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple

from faithattn.paper.data.records import TABLES
from faithattn.paper.data.splits import SPLIT_NAMES, Splits


class Source(NamedTuple):
    """A file, and the split it holds; None if its rows say that or nothing does."""

    path: Path
    split: str | None


def sources(path: str | PathLike[str], endings: tuple[str, ...] = TABLES) -> tuple[Source, ...]:
    """Returns the file, or the files of a folder in the order train, dev, test.

    In a folder, only files of the given endings count, and their names say
    which split they hold: ``train.csv``, ``snli_1.0_dev.jsonl``.
    """
    folder = Path(path)
    if not folder.is_dir():
        return (Source(folder, None),)
    found: dict[str, Path] = {}
    for file in _files(folder, endings):
        split = _split_of(file)
        if split in found:
            raise ValueError(
                f"path must hold one file for each split; got {found[split].name} and {file.name} "
                f"for {split} in the folder {folder}. Move one of them elsewhere, or rename it to "
                "serve another split."
            )
        found[split] = file
    for split in ("train", "test"):
        if split not in found:
            raise ValueError(
                f"path must hold a file for train and one for test; got none for {split} in the "
                f"folder {folder}, but {sorted(file.name for file in found.values())}. Add it, or "
                "name one file to have it split at random."
            )
    return tuple(Source(found[split], split) for split in Splits._fields if split in found)


def data_name(path: str | PathLike[str]) -> str:
    """Returns the name of the folder, or of the file without its ending."""
    return Path(path).resolve().name if Path(path).is_dir() else Path(path).stem


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """Returns the files of a folder that have one of the endings and are not hidden."""
    try:
        files = [
            file
            for file in sorted(folder.iterdir())
            if file.suffix.lower() in endings and file.is_file() and not file.name.startswith(".")
        ]
    except OSError as error:
        raise ValueError(
            f"path must name a readable folder; got {fspath(folder)} ({error.strerror}). "
            "Check its permissions."
        ) from error
    if not files:
        raise ValueError(
            f"path must name a file; got the folder {fspath(folder)}, which has no files for "
            f"train, dev and test that end in {', '.join(endings)}. Name a file, or another folder."
        )
    return files


def _split_of(file: Path) -> str:
    """Returns the split that a file is named after."""
    pieces = re.split(r"[^a-z]+", file.stem.lower())
    splits = {SPLIT_NAMES[piece] for piece in pieces if piece in SPLIT_NAMES}
    if len(splits) != 1:
        raise ValueError(
            "path must hold files that are named after train, dev or test, one of them each; got "
            f"{file.name} in the folder {file.parent}. Name the file itself, or rename it."
        )
    return splits.pop()
