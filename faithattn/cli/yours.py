"""Code of the caller that a command runs: what it raises becomes one line that says where."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faithattn.cli.errors import CommandError

_COMMANDS = Path(__file__).parent


@contextmanager
def yours(argument: str, name: str) -> Iterator[None]:
    """Ends the command where the caller's code fails, whatever it raises.

    Args:
        argument: What named the code, such as ``MODEL``.
        name: Its name, ``package.module:name``.
    """
    try:
        yield
    except Exception as error:
        said = (str(error).splitlines() or [""])[0].rstrip(".")
        raise CommandError(
            f"{argument} must run without an error; got {type(error).__name__}: {said} "
            f"in {name}{_place(error)}. Call it in Python to see where.",
            status=2,
        ) from error


def _place(error: Exception) -> str:
    """The innermost line that is nobody else's; empty if the code was not even entered."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if not _installed(each.filename)]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def _installed(filename: str) -> bool:
    path = Path(filename)
    ours = _COMMANDS in path.parents
    return ours or filename.startswith("<frozen") or "site-packages" in path.parts


def prepare_of_yours(name: str, prepare: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function named by ``--prepare``."""

    def prepared(given: Any) -> Any:
        with yours("--prepare", name):
            return prepare(given)

    return prepared


class BatchesOfYours:
    """The batches named by ``--data``.

    Attributes:
        name: Their name.
        batches: The object.
    """

    def __init__(self, name: str, batches: Any) -> None:
        self.name, self.batches = name, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        with yours("--data", self.name):
            batches = iter(self.batches)
        while True:
            with yours("--data", self.name):
                try:
                    batch = next(batches)
                except StopIteration:
                    return
            yield batch
