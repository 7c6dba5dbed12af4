"""What every command checks, and how its errors become one line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from faithattn.cli.errors import CommandError
from faithattn.cli.wording import in_options

# PyTorch reports memory that it cannot get as a RuntimeError with one of these words.
_NO_MEMORY = re.compile(r"alloc|out of memory|overflow", re.IGNORECASE)


def check_threads(threads: int) -> None:
    """Raises unless the machine has so many processors; PyTorch fails on far too many."""
    if threads < 1:
        raise ValueError(f"threads must be at least 1; got {threads}. Pass 1 or more.")
    most = os.cpu_count() or 1
    if threads > most:
        raise ValueError(
            f"threads must be at most {most}, the processors of this machine; got {threads}. "
            f"Pass {most} or fewer."
        )


@contextmanager
def failing(
    status: int,
    *errors: type[Exception],
    names: Iterable[str] = (),
    typed: Mapping[str, str] | None = None,
    memory: str,
) -> Iterator[None]:
    """Turns expected errors into the end of the command.

    Args:
        status: Exit status of these errors.
        errors: Errors to expect.
        names: Arguments to name as options.
        typed: Those of them that are typed otherwise than by their name.
        memory: What to do where memory does not suffice.
    """
    try:
        yield
    except BrokenPipeError:  # the reader has seen enough: no failure of the command
        raise
    except errors as error:
        sys.stdout.flush()
        message = in_options(str(error) or type(error).__name__, names, typed)
        raise CommandError(message, status=status) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _NO_MEMORY.search(str(error)):
            raise
        sys.stdout.flush()
        raise CommandError(
            f"the memory of this machine does not suffice. {memory}", status=1
        ) from error
