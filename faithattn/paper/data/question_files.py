"""Folders and files of the CNN and Daily Mail questions: where they are, what parts they have."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from faithattn.paper.data.files import numbered_lines
from faithattn.paper.data.splits import SPLIT_NAMES

_ENDING = ".question"
_PARTS = ("an address", "a passage", "a question", "an answer", "the names of the entities")
_NAMED = re.compile(r"@entity\d+:", re.ASCII)
_LONGEST_LINE = 1 << 24


class Part(NamedTuple):
    """One part of a file, with the number of its first line."""

    line: int
    text: str


def split_folders(folder: Path) -> dict[str, Path]:
    """Returns the folder of each split; none where the folder holds files of its own."""
    names = _names(folder)
    found: dict[str, Path] = {}
    for name in names:
        split = SPLIT_NAMES.get(name.lower())
        if split is None or not (folder / name).is_dir():
            continue
        if split in found:
            raise ValueError(
                f"path must hold one folder for {split}; got {found[split].name} and {name} in "
                f"{folder}. Remove one of them."
            )
        found[split] = folder / name
    files = any(name.endswith(_ENDING) for name in names)
    if files and found:
        raise ValueError(
            f"path must hold folders of the splits or {_ENDING} files; got both in {folder}. "
            "Move one of them away."
        )
    missing = [split for split in ("train", "test") if split not in found]
    if missing and not files:
        got = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise ValueError(
            f"path must hold {_ENDING} files, or folders training, validation and test of them; "
            f"got {folder} with {got or 'nothing'}, none for {missing[0]}. Name the folder that "
            "holds them."
        )
    return found


def _names(folder: Path) -> list[str]:
    """Returns the sorted names in a folder but for hidden ones."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"path must name an existing folder; got {folder}. Check the spelling."
        ) from error
    except NotADirectoryError as error:
        raise ValueError(
            f"path must name a folder of {_ENDING} files; got the file {folder}. Name its folder."
        ) from error
    except OSError as error:
        raise ValueError(
            f"path must name a readable folder; got {folder} ({error.strerror}). Check its "
            "permissions."
        ) from error


def file_names(folder: Path) -> list[str]:
    """Returns the sorted names of the files with questions, of which there must be one."""
    names = [name for name in _names(folder) if name.endswith(_ENDING)]
    if not names:
        raise ValueError(
            f"path must hold {_ENDING} files in each folder; got none in {folder}. Check that the "
            "data are complete."
        )
    return names


def read_parts(file: Path) -> list[Part]:
    """Splits a file at its empty lines into the five parts, all of one line but the last."""
    parts: list[Part] = []
    open_part = False
    for number, raw in numbered_lines(file, longest=_LONGEST_LINE):
        text = raw.strip()
        if text and not open_part:
            parts.append(Part(number, text))
        _check_line(number, text, len(parts), file, continued=open_part)
        open_part = bool(text)
    if len(parts) < len(_PARTS):
        last = f"the last at line {parts[-1].line}" if parts else "an empty file"
        raise ValueError(
            f"path must hold files of five parts, {', '.join(_PARTS)}, with empty lines between; "
            f"got {len(parts)} of them, {last} of {file}. Add {_PARTS[len(parts)]}."
        )
    return parts


def _check_line(number: int, text: str, parts: int, file: Path, continued: bool) -> None:
    """Raises if a line cannot stand in the part that it belongs to, counted from 1."""
    if not text:
        return
    named = _NAMED.match(text)
    if parts > len(_PARTS):
        raise ValueError(
            f"path must hold files of five parts; got a sixth at line {number} of {file}. "
            "Remove what follows the names of the entities."
        )
    if parts == len(_PARTS) and not named:
        raise ValueError(
            f"path must hold lines such as @entity3:Name as its last part; got {text[:60]!r} at "
            f"line {number} of {file}. Correct the line."
        )
    if parts == len(_PARTS) - 1 and named:
        raise ValueError(
            f"path must hold files of five parts, {', '.join(_PARTS)}; got the names after three "
            f"others, at line {number} of {file}. Add the part that is missing."
        )
    if parts < len(_PARTS) and continued:
        raise ValueError(
            f"path must hold {_PARTS[parts - 1]} in one line; got a second at line {number} of "
            f"{file}. Join the lines, or put an empty line between two parts."
        )
