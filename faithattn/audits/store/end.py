"""How many batches there are, and how to speak of them."""

from __future__ import annotations

from typing import NamedTuple


class End(NamedTuple):
    """What the data are, known once somebody has seen all of them.

    Attributes:
        batches: Their number.
        instances: Instances in all.
        digest: Digest of all batches.
    """

    batches: int
    instances: int
    digest: str


def listed(batches: list[int]) -> str:
    """Numbers of batches in words, runs of them shortened.

    Examples:
        >>> listed([3, 7, 8, 9, 12])
        'batches 3, 7 to 9, 12'
    """
    runs: list[tuple[int, int]] = []
    for batch in batches:
        if runs and runs[-1][1] == batch - 1:
            runs[-1] = runs[-1][0], batch
        else:
            runs.append((batch, batch))
    words = [str(a) if a == b else f"{a} to {b}" for a, b in runs[:10]]
    more = f" and {len(runs) - 10} more runs" if len(runs) > 10 else ""
    return f"batch{'es' if len(batches) > 1 else ''} {', '.join(words)}{more}"


def described(end: End | None) -> str:
    """What the data are, in words."""
    if end is None:
        return "none"
    return f"{end.batches} batches of {end.instances} instances (content {end.digest[:8]})"
