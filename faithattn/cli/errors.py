"""How a command ends that cannot go on."""

from __future__ import annotations


class CommandError(Exception):
    """Ends a command with one sentence on standard error.

    Attributes:
        status: Exit status: 2 for wrong usage or input, 1 for a failure on the way.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
