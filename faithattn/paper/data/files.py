"""Reading text files line by line, with errors that name the line."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike, fspath
from pathlib import Path
from typing import BinaryIO

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def numbered_lines(
    path: str | PathLike[str], *, errors: str = "strict", longest: int = -1
) -> Iterator[tuple[int, str]]:
    """Yields the number from 1 and the text of each line, its line end kept.

    ``longest`` bounds what a file without line ends can take into memory.
    """
    with _opened(path) as handle:
        for number, raw in enumerate(iter(lambda: handle.readline(longest), b""), start=1):
            line = raw.removeprefix(_BYTE_ORDER_MARK) if number == 1 else raw
            if len(raw) == longest and not raw.endswith(b"\n"):
                raise ValueError(
                    f"path must hold lines below {longest} bytes; got a longer one at line "
                    f"{number} of {fspath(path)}. Is it a text file?"
                )
            try:
                yield number, line.decode("utf-8", errors)
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"path must hold UTF-8 text; got the byte {line[error.start]:#04x} at line "
                    f"{number} of {fspath(path)}. Save the file as UTF-8."
                ) from error


def refuse_folder(path: str | PathLike[str]) -> None:
    """Raises if a path is that of a folder."""
    if Path(path).is_dir():
        raise ValueError(
            f"path must name a file; got the folder {fspath(path)}. Name a file inside it."
        )


def _opened(path: str | PathLike[str]) -> BinaryIO:
    """Opens a file for reading, saying plainly why it cannot."""
    refuse_folder(path)
    file = Path(path)
    try:
        return file.open("rb")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"path must name an existing file; got {file}. Check the spelling and the folder."
        ) from error
    except OSError as error:
        raise ValueError(
            f"path must name a readable file; got {file} ({error.strerror}). Check its permissions."
        ) from error
