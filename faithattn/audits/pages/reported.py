"""What a page must be able to ask of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from faithattn.audits.evidence import Evidence, Failure, Instance, Verdict
from faithattn.audits.headlines import Headline


class Reported(Protocol):
    """A finished audit; ``Report`` is one."""

    @property
    def headlines(self) -> Sequence[Headline]:
        """The metrics, and what their numbers are."""

    @property
    def evidence(self) -> Sequence[Evidence]:
        """One for each metric and view."""

    @property
    def verdicts(self) -> Sequence[Verdict]:
        """What follows from them."""

    @property
    def overall(self) -> str:
        """The same in one paragraph."""

    @property
    def failures(self) -> Sequence[Failure]:
        """Metrics that failed on batches."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What was run on what, as JSON values."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the numbers there are for every instance."""

    def column(self, name: str) -> NDArray[Any]:
        """One number for every instance, ``(N,)``, not read before it is used."""

    def instances(self, numbers: Sequence[int]) -> list[Instance]:
        """Instances with their scores."""

    def telling(self, count: int) -> list[int]:
        """Ids of instances worth looking at."""

    def __len__(self) -> int:
        """Number of instances."""
