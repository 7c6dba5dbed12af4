"""Errors that are about a model rather than about one argument."""

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
