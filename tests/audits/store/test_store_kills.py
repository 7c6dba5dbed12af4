"""Killed at any moment, the audit goes on, and ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from made_parts import COLUMNS, MANIFEST, digest, first_of, write

from faithattn.audits.store import Store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
BATCHES, KILLS = 100, 20


def audit(folder: Path, ready: int, worker: str = "0") -> None:
    """What an audit does: skip what is finished, write the rest, finish."""
    with Store.begin(folder, MANIFEST, worker=worker) as store:
        os.write(ready, b"!")
        for batch in range(BATCHES):
            if not store.holds(batch, digest(batch)):
                write(store, [batch])
        store.end(BATCHES, first_of(BATCHES), "all")
        store.finish()


def forked(folder: Path, worker: str = "0") -> int:
    """The id of a process that audits, once it has begun."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            audit(folder, writing, worker)
        except BaseException as error:
            print(repr(error), file=sys.__stderr__, flush=True)
            os._exit(1)
        os._exit(0)
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    return process


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all columns; how long metrics took is not theirs."""
    paths = sorted((folder / "columns").iterdir())
    return {path.name: path.read_bytes() for path in paths if path.name != "seconds.json"}


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_kills_at_random_moments_change_nothing(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    start = time.perf_counter()
    assert os.waitpid(forked(whole), 0)[1] == 0
    takes = time.perf_counter() - start
    rng = random.Random(6)
    for _ in range(KILLS):
        process = forked(killed)
        time.sleep(rng.random() * takes / KILLS * 2)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        with Store.begin(killed, MANIFEST) as store:
            assert all(store.about(batch) for batch in store.known())
            assert not list((killed / "temporary").glob("*/*"))
    assert os.waitpid(forked(killed), 0)[1] == 0
    assert contents(killed) == contents(whole)
    assert len(contents(whole)) == len(COLUMNS) + 3


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_several_workers_at_once_in_one_folder(tmp_path: Path) -> None:
    """All write every batch and finish at the same time: the most that can collide."""
    one, many = tmp_path / "one", tmp_path / "many"
    assert os.waitpid(forked(one), 0)[1] == 0
    processes = [forked(many, worker=str(number)) for number in range(3)]
    assert [os.waitpid(process, 0)[1] for process in processes] == [0, 0, 0]
    assert contents(many) == contents(one)
    assert not list((many / "temporary").glob("*/*"))
