"""Who takes which batch: one process, a shard of a job array, or a process group of PyTorch."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

import torch.distributed as dist

from faithattn._checks import require_count
from faithattn.errors import AuditError, reason_of

_PATIENCE = timedelta(days=365)
_MEETING = timedelta(minutes=30)
# The group of PyTorch that was there last, and that of the audits within it.
_groups: list[tuple[Any, Any]] = []


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
        found = self._exchange(value)
        others = [rank for rank, other in enumerate(found) if other != found[0]]
        if others:
            raise AuditError(
                f"{name} must be the same in every process; got another in process {others[0]} "
                f"than in process 0. {remedy}"
            )

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
        try:
            yield
        except LostProcessError as error:  # whoever is gone takes no part in an exchange
            raise LostProcessError(f"{error} {kept}") from error.__cause__
        except Exception as error:
            with suppress(LostProcessError):
                self._exchange(_Ended(reason_of(error)))
            raise
        try:
            self._exchange(None)
        except LostProcessError as error:
            raise LostProcessError(f"{error} {kept}") from error.__cause__

    def _exchange(self, value: object) -> list[Any]:
        """What every worker gives, by rank.

        Raises:
            LostProcessError: If one of them has failed, or is gone.
        """
        found: list[Any] = [None] * self.count
        try:
            dist.all_gather_object(found, value, group=self.group)
        except RuntimeError as error:
            raise LostProcessError(
                f"every process must reach the end; one of the {self.count} is gone "
                f"({str(error).splitlines()[0][:120]})."
            ) from error
        for rank, other in enumerate(found):
            if isinstance(other, _Ended) and rank != self.rank:
                raise LostProcessError(
                    f"every process must reach the end; process {rank} failed ({other.reason})."
                )
        return found


class _Ended(NamedTuple):
    """Given by a worker that cannot go on, wherever the others are."""

    reason: str


class LostProcessError(AuditError):
    """Another process of the group failed, or is gone."""


def workers_of(shard: tuple[int, int] | None, *, shared: bool) -> Workers:
    """The workers that this process is one of.

    Args:
        shard: Number of this shard, from 0, and of how many; None for the
            process group of PyTorch where one is initialised, else alone.
        shared: Whether there is a folder that others may write to as well;
            without one each process is alone.

    Raises:
        TypeError: If the shard is no pair of whole numbers.
        ValueError: If it is out of range.
        LostProcessError: If not all processes of the group ask.
    """
    if shard is not None:
        return _shard(shard)
    if not (shared and dist.is_available() and dist.is_initialized()):
        return Workers()
    return Workers(dist.get_rank(), dist.get_world_size(), _meeting())


def _meeting() -> Any:
    """A group of the backend that can exchange objects without a GPU, once all are there.

    One for all audits within a group of PyTorch: an audit an epoch must not pile them up.

    Raises:
        LostProcessError: If some do not come.
    """
    from torch.distributed.distributed_c10d import _set_pg_timeout  # not every build has it

    world, known = dist.group.WORLD, _groups[0] if _groups else (None, None)
    try:
        # At the beginning nobody has had anything to do: who is not there does not come.
        group = known[1]
        if known[0] is not world:
            group = dist.new_group(backend="gloo", timeout=_MEETING)
        _set_pg_timeout(_MEETING, group)
        dist.all_gather_object([None] * dist.get_world_size(), None, group=group)
    except RuntimeError as error:
        _groups.clear()
        raise LostProcessError(
            "every process of the group must call audit(); got some that did not within "
            f"{_MEETING.total_seconds() / 60:g} minutes. Call it in all of them, or work alone: "
            "without out, or with shard=(0, 1)."
        ) from error
    # From now on they wait for the slowest; one that dies closes its connection, which is noticed.
    _set_pg_timeout(_PATIENCE, group)
    _groups[:] = [(world, group)]
    return group


@atexit.register
def part() -> None:
    """Lets go of the audits' own group, as is due before the group of PyTorch is destroyed.

    At the end of a process at the latest: its threads must not outlive the interpreter.
    """
    while _groups:
        world, group = _groups.pop()
        if dist.is_initialized() and dist.group.WORLD is world:
            dist.destroy_process_group(group)


def _shard(shard: object) -> Workers:
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
