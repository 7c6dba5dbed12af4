"""Errors that are about a model or an audit rather than about one argument."""

from __future__ import annotations

from collections.abc import Sequence


class AdapterError(Exception):
    """A model cannot be read, or an adapter breaks its contract.

    Attributes:
        violations: Every violation found, one sentence each; empty where the
            message says it all.

    Examples:
        >>> error = AdapterError("two rules broken", ["logits must be finite", "mask must fit"])
        >>> error.violations
        ('logits must be finite', 'mask must fit')
    """

    def __init__(self, message: str, violations: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.violations = tuple(violations)


def reason_of(error: Exception) -> str:
    r"""What an exception says, in one line.

    Examples:
        >>> reason_of(ValueError("target must be a class;\n got 7."))
        'ValueError: target must be a class; got 7.'
    """
    text = " ".join(str(error).split())
    return text if isinstance(error, AdapterError) else f"{type(error).__name__}: {text}"


class AuditError(RuntimeError):
    """An audit cannot begin, go on or be read: its folder, its data or a process of it.

    What was finished stays in its folder.

    Examples:
        >>> raise AuditError("model must be the one the audit began with; got other weights.")
        Traceback (most recent call last):
        ...
        faithattn.errors.AuditError: model must be the one the audit began with; got other weights.
    """
