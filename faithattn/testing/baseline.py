"""What a model's values were when they were last accepted, in a file that diffs as text."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from faithattn._version import __version__

SCHEMA = 1
_DIGITS = 9
_PER_LINE = 8


@dataclass(frozen=True, eq=False)
class Baseline:
    """Stored values of one check.

    Attributes:
        data: Digest of the data, and how many instances and batches they were.
        settings: Seed, view, and options by metric.
        written_with: Versions.
        summary: Mean, interval and counts by metric, for people.
        values: One number an instance, by metric, ``(N,)``; nan where undefined.
    """

    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    written_with: Mapping[str, str]
    summary: Mapping[str, Mapping[str, Any]]
    values: Mapping[str, NDArray[np.float64]]

    def write(self, path: Path) -> None:
        """Writes the file at once or not at all, and the folders above it.

        Raises:
            OSError: If it cannot be written; a file that was there stays as it was.
        """
        __tracebackhide__ = True
        try:
            self._replace(path)
        except OSError as error:
            raise type(error)(
                error.errno,
                f"path must be one where a file can be written; got {path} ({error.strerror}). "
                "Choose another folder for baselines.",
            ) from error

    def _replace(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(self._text())
            Path(name).chmod(0o644)  # of temporary files nobody else can read
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _text(self) -> str:
        head = {
            "schema": SCHEMA,
            "data": dict(self.data),
            "settings": dict(self.settings),
            "written_with": dict(self.written_with),
            "summary": {name: dict(each) for name, each in self.summary.items()},
        }
        columns = ",\n".join(
            f"    {json.dumps(name)}: [\n{_lines(values)}\n    ]"
            for name, values in self.values.items()
        )
        opened = json.dumps(head, indent=2, allow_nan=False).removesuffix("\n}")
        return f'{opened},\n  "values": {{\n{columns}\n  }}\n}}\n'

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """Reads a file.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is no baseline of this schema.
        """
        text = path.read_text(encoding="utf-8")
        try:
            found = json.loads(text)
            if found["schema"] != SCHEMA:
                raise ValueError(f"schema {found['schema']!r}")
            values = {
                str(name): np.array(
                    [np.nan if each is None else each for each in column], np.float64
                )
                for name, column in found["values"].items()
            }
            parts = (found["data"], found["settings"], found["written_with"], found["summary"])
            return cls(*parts, values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"{path} must be a baseline of schema {SCHEMA}; got a file with {reason}. "
                "Write it again."
            ) from error


def versions() -> dict[str, str]:
    """What values may depend on beside model, data and settings."""
    return {
        "faithattn": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values as a file holds them, so that what is stored and what is new differ by no rounding."""
    return np.array([float(f"{each:.{_DIGITS}g}") for each in values], np.float64)


def _lines(values: NDArray[np.float64]) -> str:
    """Numbers of nine digits, eight a line, so that a change of one shows as one line."""
    shown = ["null" if np.isnan(each) else f"{each:.{_DIGITS}g}" for each in values]
    rows = [shown[first : first + _PER_LINE] for first in range(0, len(shown), _PER_LINE)]
    return ",\n".join("      " + ", ".join(row) for row in rows)
