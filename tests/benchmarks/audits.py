"""``python -m tests.benchmarks.audits``: large audits, in several processes, killed and gone on.

Audits a generated data set with 1, 2 and 4 processes and, in another folder, with processes that
are killed at random moments; compares every column bit for bit; prints time and peak memory, and
the peak of smaller data sets beside it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from faithattn.audits.store import Store

_ROOT = Path(__file__).parents[2]
_POLL = 0.05


def main() -> None:
    """Runs everything and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.audits", description=__doc__)
    parser.add_argument("--instances", type=int, default=100_000, metavar="N")
    parser.add_argument("--kills", type=int, default=20, metavar="N")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4], metavar="N")
    chosen = parser.parse_args()
    count = chosen.instances
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(
            f"{'audit of':>24}{'processes':>11}{'seconds':>9}{'peak MB, each':>15}  the same bits"
        )
        for size in (count // 100, count // 10):
            _report(folder / f"small-{size}", size, 1, None)
        first = folder / "processes-1"
        for processes in chosen.processes:
            own = folder / f"processes-{processes}"
            _report(own, count, processes, None if own == first else first)
        _killed(folder / "killed", count, chosen.kills, first)


def _report(out: Path, instances: int, processes: int, like: Path | None) -> None:
    """One audit from the beginning to the end, and its line."""
    start = time.perf_counter()
    peak = _finish(_begin(out, instances, processes))
    seconds = time.perf_counter() - start
    same = "" if like is None else str(_same(out, like))
    print(f"{instances:>24,}{processes:>11}{seconds:>9.0f}{peak:>15.0f}  {same}", flush=True)


def _killed(out: Path, instances: int, kills: int, like: Path) -> None:
    """An audit that is killed at random moments, and started again until it is done."""
    draw, start, done = random.Random(0), time.perf_counter(), 0
    whole = _seconds_of(like)
    for _ in range(kills):
        process = _begin(out, instances, 1)
        try:
            process.wait(timeout=draw.uniform(1.0, 5.0 + 2 * whole / max(kills, 1)))
        except subprocess.TimeoutExpired:
            done += 1
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.wait()
    _finish(_begin(out, instances, 1))
    seconds = time.perf_counter() - start
    said = f"killed {done} times"
    print(f"{instances:>24,}{said:>20}{seconds:>9.0f}{'':>6}  {_same(out, like)}", flush=True)


def _begin(out: Path, instances: int, processes: int) -> subprocess.Popen[bytes]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [
        sys.executable,
        *(torchrun if processes > 1 else []),
        *("-m", "faithattn", "audit", "tests.benchmarks.generated:model"),
        *("--data", "tests.benchmarks.generated:batches", "--out", str(out), "--quiet"),
    ]
    environment = {"FAITHATTN_INSTANCES": str(instances), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=_ROOT,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _finish(process: subprocess.Popen[bytes]) -> float:
    """Waits for the end; the highest resident size of a process that computed, in megabytes."""
    peak = 0.0
    while process.poll() is None:
        peak = max([peak, *map(_resident, _family(process.pid))])
        time.sleep(_POLL)
    if process.returncode:
        raise SystemExit(process.stderr.read().decode() if process.stderr else "failed")
    return peak


def _family(pid: int) -> list[int]:
    """A process and its children, as Linux lists them."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        children = []
    return [pid, *(each for child in children for each in _family(int(child)))]


def _resident(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def _seconds_of(folder: Path) -> float:
    return sum(Store.open(folder).seconds().values())


def _same(folder: Path, other: Path) -> bool:
    """Whether all columns and all scores by position are the same to the bit."""
    mine, theirs = Store.open(folder), Store.open(other)
    columns = mine.columns == theirs.columns and all(
        np.asarray(mine.column(name)).tobytes() == np.asarray(theirs.column(name)).tobytes()
        for name in mine.columns
    )
    return columns and all(
        part.positions[name].values.tobytes() == ragged.values.tobytes()
        for number in mine.known()
        for part in [mine.part(number)]
        for name, ragged in theirs.part(number).positions.items()
    )


if __name__ == "__main__":
    main()
