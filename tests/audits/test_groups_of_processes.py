"""Workers of a process group: all are told of what happens to one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from faithattn.audits.workers import Workers, part, workers_of
from faithattn.errors import AuditError

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork") or not dist.is_available(), reason="needs fork and torch.distributed"
)
KEPT = "All is kept."
Work = Callable[[Workers], Any]


def outcomes(work: Work, folder: Path, count: int = 2, absent: int = 0) -> list[str]:
    """What a function ends with in each of several processes of a group; empty if one died.

    The last ``absent`` of them meet the others and do nothing more.
    """
    pids = []
    for rank in range(count):
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)  # a test that hangs must not hang the others
            try:
                dist.init_process_group(
                    "gloo",
                    init_method=f"file://{folder}/meeting",
                    rank=rank,
                    world_size=count,
                    timeout=timedelta(seconds=60),
                )
                dist.barrier()  # who leaves at once is gone before the others have met
                said = str(work(workers_of(None, shared=rank < count - absent)))
            except BaseException as error:  # whatever it is, it is the outcome
                said = f"{type(error).__name__}: {error}"
            (folder / f"{rank}.txt").write_text(said, encoding="utf-8")
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    paths = [folder / f"{rank}.txt" for rank in range(count)]
    said = [path.read_text(encoding="utf-8") if path.exists() else "" for path in paths]
    return said[: count - absent]


def test_they_deal_the_batches(tmp_path: Path) -> None:
    def work(workers: Workers) -> Any:
        with workers.together(KEPT):
            workers.agree("batches", "the same", "Mend it.")
        return [batch for batch in range(5) if workers.takes(batch)], workers.leads, workers.name

    assert outcomes(work, tmp_path) == [
        "([0, 2, 4], True, '0-of-2')",
        "([1, 3], False, '1-of-2')",
    ]


def test_what_differs_is_named_in_all(tmp_path: Path) -> None:
    def work(workers: Workers) -> None:
        with workers.together(KEPT):
            workers.agree("batches", f"of {workers.rank}", "Mend it.")

    said = "AuditError: batches must be the same in every process; got another in process 1 than in"
    assert all(each.startswith(said) for each in outcomes(work, tmp_path))


@pytest.mark.parametrize("early", [True, False])
def test_what_fails_in_one_ends_all(early: bool, tmp_path: Path) -> None:
    """Before the others have agreed on anything, or after."""

    def work(workers: Workers) -> None:
        with workers.together(KEPT):
            if early and workers.rank == 1:
                raise ArithmeticError("odd")
            workers.agree("batches", "the same", "Mend it.")
            if workers.rank == 1:
                raise ArithmeticError("odd")

    one, other = outcomes(work, tmp_path)
    assert other == "ArithmeticError: odd"
    assert one == (
        "LostProcessError: every process must reach the end; process 1 failed "
        f"(ArithmeticError: odd). {KEPT}"
    )


def test_one_that_dies_is_noticed(tmp_path: Path) -> None:
    def work(workers: Workers) -> None:
        with workers.together(KEPT):
            workers.agree("batches", "the same", "Mend it.")
            if workers.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)

    one, other = outcomes(work, tmp_path)
    assert other == ""
    assert one.startswith("LostProcessError: every process must reach the end; one of the 2 is")
    assert one.endswith(KEPT)


def test_a_process_may_work_alone_within_a_group(tmp_path: Path) -> None:
    """As where only the first looks at the model between epochs."""

    def work(workers: Workers) -> Any:
        if workers.rank == 0:
            return workers_of(None, shared=False), workers_of((0, 1), shared=True)
        return "waits for nobody"

    alone = Workers()
    assert outcomes(work, tmp_path) == [str((alone, alone)), "waits for nobody"]


def test_one_that_waits_in_vain_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where only the first process audits, into a folder."""
    monkeypatch.setattr("faithattn.audits.workers._MEETING", timedelta(seconds=0.6))
    said = "LostProcessError: every process of the group must call audit(); got some that did not"
    (one,) = outcomes(lambda workers: workers, tmp_path, count=2, absent=1)
    assert one.startswith(f"{said} within 0.01 minutes.")


def test_the_group_of_audits_ends_before_that_of_pytorch(tmp_path: Path) -> None:
    def work(workers: Workers) -> Any:
        dist.barrier()
        part()
        try:
            dist.get_rank(workers.group)
        except ValueError as error:  # PyTorch knows it no more
            said = str(error)
        part()  # once more is once too often, and harmless
        with workers_of(None, shared=True).together(KEPT):
            dist.barrier()
        part()
        dist.destroy_process_group()
        part()
        return said

    one, other = outcomes(work, tmp_path)
    assert one == other and "group" in one.lower(), (one, other)


def test_alone_there_is_nobody_to_tell() -> None:
    workers = workers_of(None, shared=True)
    assert workers == Workers() and workers.leads and workers.takes(7)
    with pytest.raises(AuditError, match="as it was"), workers.together(KEPT):
        workers.agree("batches", "any", "")
        raise AuditError("as it was")


def test_audits_of_a_group_share_one_of_their_own(tmp_path: Path) -> None:
    def work(workers: Workers) -> Any:
        again = workers_of(None, shared=True)
        with again.together(KEPT):
            again.agree("batches", "the same", "Mend it.")
        return again.group is workers.group

    assert outcomes(work, tmp_path) == ["True", "True"]
