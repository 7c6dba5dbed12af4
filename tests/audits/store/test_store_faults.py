"""Damage, full disks, other people's folders, two at a time."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from made_parts import (
    COLUMNS,
    MANIFEST,
    assert_same,
    audited,
    digest,
    expected,
    first_of,
    made,
    with_seed,
    write,
)

from faithattn.audits.store import Store
from faithattn.audits.store.files import create_file
from faithattn.audits.store.locks import Lock
from faithattn.errors import AuditError

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
linux_only = pytest.mark.skipif(os.name != "posix", reason="locks and disks of POSIX systems")


def in_a_child(act: Callable[[], str]) -> str:
    """What a function returns in a forked process."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        said = b"raised"
        try:
            said = act().encode()
        finally:
            os.write(writing, said)
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(process, 0)
    return said


@contextmanager
def in_another_child() -> Iterator[None]:
    """A forked process that does nothing is there inside."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.write(writing, b"!")
        time.sleep(60)
        os._exit(0)
    os.read(reading, 1)
    os.close(reading)
    os.close(writing)
    try:
        yield
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def part_file(folder: Path, batch: int) -> Path:
    return folder / "parts" / f"{batch:08}.npz"


@pytest.mark.parametrize("damage", ["cut", "empty", "one bit", "another batch"])
def test_a_damaged_file_is_measured_anew(tmp_path: Path, damage: str) -> None:
    with Store.begin(tmp_path, MANIFEST) as store:
        write(store, range(4))
        store.end(4, first_of(4), "all")
        path = part_file(tmp_path, 2)
        data = path.read_bytes()
        changed = {
            "cut": data[: len(data) // 2],
            "empty": b"",
            "one bit": data[:99] + bytes([data[99] ^ 4]) + data[100:],
            "another batch": part_file(tmp_path, 1).read_bytes(),
        }
        path.write_bytes(changed[damage])
        if damage == "another batch":
            with pytest.raises(AuditError, match="batches must follow each other"):
                store.finish()
        else:
            for read in (lambda: store.part(2), store.finish, store.failures, store.seconds):
                with pytest.raises(AuditError, match=r"00000002\.npz.*damaged.*batch 2 alone"):
                    read()
        assert not store.is_finished
        assert [store.holds(batch, digest(batch)) for batch in range(4)] == [
            True,
            True,
            False,
            True,
        ]
        write(store, [2])
        store.finish()
        assert store.column("batch").tobytes() == expected("batch", 4).tobytes()


def test_damaged_columns_are_named(tmp_path: Path) -> None:
    audited(tmp_path)
    path = tmp_path / "columns" / "00001.npy"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(AuditError, match=r"got 00001\.npy, which cannot be read.*Remove .*columns"):
        Store.open(tmp_path).column(COLUMNS[1][0])


def test_a_damaged_record_of_a_failure_is_named_or_overwritten(tmp_path: Path) -> None:
    with Store.begin(tmp_path, MANIFEST) as store:
        store.fail(0, first=0, size=1, digest=digest(0), reason="why")
        (tmp_path / "failed" / "00000000.json").write_bytes(b'{"batch": 0')
        with pytest.raises(AuditError, match=r"00000000\.json must be readable JSON"):
            store.failures()
        assert not store.holds(0, digest(0))
        store.fail(0, first=0, size=1, digest=digest(0), reason="again")
        assert store.failures()[0].reason == "again"


def test_what_fails_again_outdates_the_columns(tmp_path: Path) -> None:
    with Store.begin(tmp_path, MANIFEST) as store:
        for reason in ("odd", "even"):
            store.fail(0, first=0, size=1, digest=digest(0), reason=reason)
            store.end(1, 1, "of all")
            assert not store.is_finished
            store.finish()
            assert store.is_finished and store.failures()[0].reason == reason


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, r"\(No space left on device\)\. 3 finished batches are kept; free space"),
        (errno.EROFS, "3 finished batches are kept; allow writing there"),
        (errno.EIO, "3 finished batches are kept; see to it"),
    ],
)
def test_what_is_safe_where_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    with Store.begin(tmp_path, MANIFEST) as store:
        write(store, range(3))

        def fails(_: int) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fails)
            for act in (
                lambda: write(store, [3]),
                lambda: store.fail(3, first=0, size=1, digest="d", reason="r"),
                lambda: store.end(4, first_of(4), "all"),
            ):
                with pytest.raises(AuditError, match=remedy):
                    act()
        assert store.known() == [0, 1, 2] and store.known_end() is None
        assert not list((tmp_path / "temporary").glob("*/*"))
        write(store, [3])
        store.end(4, first_of(4), "all")
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fails)
            with pytest.raises(AuditError, match=remedy.replace("3 fin", "4 fin")):
                store.finish()
        assert not store.is_finished and not list((tmp_path / "temporary").glob("*/*"))
        store.finish()
        assert store.column("batch").tobytes() == expected("batch", 4).tobytes()


@linux_only
def test_a_real_disk_that_is_full(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root mounts a small disk")
    try:
        out = tmp_path / "out"
        with Store.begin(out, MANIFEST) as store:
            with pytest.raises(AuditError, match=r"No space left on device.* kept; free space"):
                write(store, range(4, 1000))
            kept = store.known()
            assert len(kept) > 10
            assert all(store.holds(batch, digest(batch)) for batch in kept)
        with Store.begin(out, MANIFEST) as store:
            assert store.known() == kept
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@linux_only
@pytest.mark.parametrize("known", [False, True])
def test_a_folder_that_cannot_be_written_to(tmp_path: Path, known: bool) -> None:
    """In a process without root's rights, which no permission binds."""
    out = tmp_path / "out"
    if known:
        with Store.begin(out, MANIFEST) as store:
            write(store, [0])
        (out / "locks" / "begin").chmod(0o444)
    parents = [each for each in tmp_path.parents if each.stat().st_uid == os.geteuid()]
    modes = [(each, each.stat().st_mode) for each in parents]
    try:
        for each, mode in modes:
            each.chmod(mode | 0o055)
        tmp_path.chmod(0o555)
        said = in_a_child(lambda: begun_without_rights(out))
    finally:
        tmp_path.chmod(0o755)
        for each, mode in modes:
            each.chmod(mode)
    kept = "1 finished batch is" if known else "0 finished batches are"
    assert "(Permission denied)" in said
    assert f"{kept} kept; allow writing there and run the same command again." in said


def begun_without_rights(out: Path) -> str:
    if os.geteuid() == 0:
        os.seteuid(65534)
    with pytest.raises(AuditError) as caught:
        Store.begin(out, MANIFEST)
    return str(caught.value)


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / ".hidden").write_text("")
    with pytest.raises(AuditError, match=r"got .*, which holds 'notes\.txt' and 1 more"):
        Store.begin(tmp_path, MANIFEST)
    with pytest.raises(AuditError, match=r"got .*, which holds 'notes"):
        Store.open(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(AuditError, match="must be a folder that can be read; got"):
        Store.begin(tmp_path / "notes.txt", MANIFEST)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text('{"name": "a page"}')
    with pytest.raises(AuditError, match="must be one of an audit"):
        Store.begin(tmp_path / "web", MANIFEST)
    with pytest.raises(AuditError, match=r"got .*gone, which has no manifest\.json"):
        Store.open(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_hidden_files_and_reports_beside_it_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".keep").write_text("")
    audited(tmp_path)
    (tmp_path / "report.html").write_text("")
    with Store.begin(tmp_path, MANIFEST) as store:
        assert store.holds(0, digest(0))


def test_another_audit_is_refused_with_what_changed(tmp_path: Path) -> None:
    audited(tmp_path)
    with pytest.raises(AuditError, match=r"where seed was 0 and is 1\. Go back"):
        Store.begin(tmp_path, with_seed(1))


def test_of_two_who_begin_at_once_one_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    assert create_file(target, b"mine", tmp_path) and not create_file(target, b"yours", tmp_path)
    assert target.read_bytes() == b"mine" and list(tmp_path.iterdir()) == [target]

    def no_links(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links on this disk")

    monkeypatch.setattr(os, "link", no_links)
    assert not create_file(target, b"yours", tmp_path)
    assert create_file(tmp_path / "other", b"whole", tmp_path)
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"mine", b"whole"]


def test_a_file_is_replaced_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.begin(tmp_path, MANIFEST) as store:
        write(store, [0])
        before = part_file(tmp_path, 0).read_bytes()

        def is_killed(source: Path, target: Path) -> None:
            assert source.read_bytes() != before == target.read_bytes()
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "replace", is_killed)
        with pytest.raises(KeyboardInterrupt):
            store.write(0, made(1), first=0, digest="another")
        assert part_file(tmp_path, 0).read_bytes() == before


@linux_only
def test_a_worker_runs_once(tmp_path: Path) -> None:
    first = Store.begin(tmp_path, MANIFEST, worker="rank 1/2")
    with pytest.raises(AuditError, match=rf"process {os.getpid()} on .* as worker 'rank 1/2'"):
        Store.begin(tmp_path, MANIFEST, worker="rank 1/2")
    with Store.begin(tmp_path, MANIFEST, worker="rank 2/2") as second:
        write(second, [1])
        write(first, [0])
    first.close()
    with Store.begin(tmp_path, MANIFEST, worker="rank 1/2") as again:
        assert again.known() == [0, 1]


@linux_only
def test_a_disk_without_locks_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOSYS, "no locks on this disk")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with Store.begin(tmp_path, MANIFEST, worker="1"):
        half = tmp_path / "temporary" / "worker-1" / "half"
        half.write_bytes(b"")
        with Store.begin(tmp_path, MANIFEST, worker="2") as store:
            write(store, [0])
        assert half.exists()  # whoever writes it may be alive
    Store.begin(tmp_path, MANIFEST, worker="1").close()
    assert not half.exists()


@linux_only
def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """As a loader's workers, which outlive a killed process for some seconds."""
    lock = Lock.take(tmp_path / "lock")
    assert lock is not None

    with in_another_child():
        assert in_a_child(lambda: str(Lock.take(tmp_path / "lock"))) == "None"
        lock.release()  # as the system does it for a process that ended
        again = Lock.take(tmp_path / "lock")
        assert again is not None
        again.release()


@linux_only
def test_only_the_left_overs_of_the_dead_are_removed(tmp_path: Path) -> None:
    alive = Store.begin(tmp_path, MANIFEST, worker="alive")
    Store.begin(tmp_path, MANIFEST, worker="dead").close()
    Store.begin(tmp_path, MANIFEST, worker="far").close()
    (tmp_path / "locks" / "worker-far").write_text('{"host": "another machine", "process": 1}')
    left = {}
    for name in ("alive", "dead", "far", "own"):
        folder = tmp_path / "temporary" / f"worker-{name}"
        folder.mkdir(exist_ok=True)
        (folder / "columns.1.0").mkdir()
        (folder / "columns.1.0" / "00000.npy").write_bytes(b"half")
        left[name] = folder / "00000000.npz.1.2"
        left[name].write_bytes(b"half")
    Store.begin(tmp_path, MANIFEST, worker="own").close()
    assert {name for name, path in left.items() if path.exists()} == {"alive", "far"}
    alive.close()
    Store.begin(tmp_path, MANIFEST, worker="far").close()
    assert not list((tmp_path / "temporary").glob("*/*"))


def test_an_audit_killed_before_its_manifest_begins_anew(tmp_path: Path) -> None:
    audited(tmp_path, 0)
    for name in ("manifest.json", "end.json"):
        (tmp_path / name).unlink()
    for path in (tmp_path / "columns").iterdir():
        path.unlink()
    (tmp_path / "columns").rmdir()
    with Store.begin(tmp_path, with_seed(1)) as store:
        write(store, [0])
        assert_same(store.part(0), made(0))
    assert Store.open(tmp_path).manifest == with_seed(1)
