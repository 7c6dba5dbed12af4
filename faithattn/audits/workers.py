"""Who takes which batch: one process, a shard of a job array, or a process group of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from faithattn._checks import require_count
from faithattn.errors import AuditError

# Processes wait for the slowest at the end; one that died closes its connection, which is noticed.
_PATIENCE = timedelta(days=365)


@dataclass(frozen=True)
class Workers:
    """One of several workers that share an audit's folder, and perhaps a process group.

    Attributes:
        rank: Number of this worker, from 0.
        count: How many there are.
        group: Process group in which they talk, None where each is alone.
    """

    rank: int = 0
    count: int = 1
    group: Any = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """What this worker is called in the folder."""
        return f"{self.rank}-of-{self.count}"

    @property
    def leads(self) -> bool:
        """Whether this worker does what needs doing once: a shard always does."""
        return self.group is None or self.rank == 0

    def takes(self, batch: int) -> bool:
        """Whether a batch is this worker's."""
        return batch % self.count == self.rank

    def agree(self, name: str, value: str, remedy: str) -> None:
        """Raises unless all workers of the group hold the same value."""
        if self.group is None:
            return
        values = self._gather(value)
        others = [rank for rank, other in enumerate(values) if other != values[0]]
        if others:
            raise AuditError(
                f"{name} must be the same in every process; got another in process {others[0]} "
                f"than in process 0. {remedy}"
            )

    def wait(self) -> None:
        """Waits until all workers of the group are here."""
        if self.group is not None:
            self._gather(None)

    @contextmanager
    def together(self, kept: str) -> Iterator[None]:
        """Lets an error in one process of the group end them all, with one message.

        Args:
            kept: What is safe, and how to go on, a sentence.

        Raises:
            AuditError: In the others, where one failed or died.
        """
        if self.group is None:
            yield
            return
        error: Exception | None = None
        try:
            yield
        except LostProcessError:
            raise  # whoever is gone takes no part in an exchange
        except Exception as found:
            error = found
        reasons = self._gather(None if error is None else f"{type(error).__name__}: {error}", kept)
        if error is not None:
            raise error
        for rank, reason in enumerate(reasons):
            if reason is not None:
                raise AuditError(f"process {rank} failed ({reason}) {kept}")

    def _gather(self, value: object, kept: str = "") -> list[Any]:
        found: list[Any] = [None] * self.count
        try:
            dist.all_gather_object(found, value, group=self.group)
        except RuntimeError as error:
            raise LostProcessError(
                f"every process must reach the end; one of the {self.count} is gone "
                f"({str(error).splitlines()[0][:120]}). {kept}".strip()
            ) from error
        return found


class LostProcessError(AuditError):
    """A process of the group is gone."""


def workers_of(shard: tuple[int, int] | None) -> Workers:
    """The workers that this process is one of.

    Args:
        shard: Number of this shard, from 0, and of how many; None for the
            process group of PyTorch where one is initialised, else alone.

    Raises:
        TypeError: If the shard is no pair of whole numbers.
        ValueError: If it is out of range, or given within a process group.
    """
    in_group = dist.is_available() and dist.is_initialized()
    if shard is not None:
        return _shard(shard, in_group)
    if not in_group:
        return Workers()
    # Its own group: of the backend that can exchange objects without a GPU, and that waits.
    group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    return Workers(dist.get_rank(), dist.get_world_size(), group)


def _shard(shard: object, in_group: bool) -> Workers:
    if in_group:
        raise ValueError(
            "shard must be left out within a process group, which deals the batches itself; "
            f"got {shard!r}. Leave out one of them."
        )
    if not isinstance(shard, tuple | list) or len(shard) != 2:
        raise TypeError(
            f"shard must be a pair, its number from 0 and of how many; got {shard!r}. Pass (0, 4)."
        )
    count = require_count("shard", shard[1])
    rank = require_count("shard", shard[0], least=0)
    if rank >= count:
        raise ValueError(
            f"shard must be a number from 0 to {count - 1} of {count}; got {rank}. "
            "Number the shards from 0."
        )
    return Workers(rank, count)
