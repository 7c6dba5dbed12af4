from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
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
    size_of,
    write,
)

from faithattn.audits.evidence import Failure
from faithattn.audits.store import Store, columns
from faithattn.errors import AuditError


def test_columns_are_all_batches_together(tmp_path: Path) -> None:
    store = audited(tmp_path / "new" / "out")
    assert store.columns == tuple(name for name, _ in COLUMNS)
    assert store.is_complete and store.is_finished and store.missing() == []
    assert len(store) == first_of(12)
    for name, dtype in COLUMNS:
        column = store.column(name)
        assert column.dtype == dtype and column.tobytes() == expected(name).tobytes()
        assert isinstance(column, np.memmap)
    assert [store.locate(k) for k in range(len(store))] == [
        (batch, row) for batch in range(12) for row in range(size_of(batch))
    ]
    for batch in range(12):
        assert_same(store.part(batch), made(batch))
    assert store.manifest == MANIFEST
    assert not list((tmp_path / "new" / "out" / "temporary").glob("*/*"))


def test_blocks_of_any_size_give_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audited(tmp_path / "one")
    monkeypatch.setattr(columns, "_BLOCK", 1)
    audited(tmp_path / "many")
    names = sorted(path.name for path in (tmp_path / "one" / "columns").iterdir())
    assert len(names) == len(COLUMNS) + 4
    for name in names:
        one, many = ((tmp_path / each / "columns" / name).read_bytes() for each in ("one", "many"))
        assert one == many, name


def test_failures_and_times_before_and_after_finishing(tmp_path: Path) -> None:
    with Store.begin(tmp_path, MANIFEST) as store:
        write(store, [0, 1, 2, 3, 4])
        store.fail(5, first=first_of(5), size=3, digest=digest(5), reason="out\nof 'memory'")
        failures = (
            Failure(4, (first_of(4), first_of(5) - 1), "loo_correlation", "failed on 4"),
            Failure(5, (first_of(5), first_of(5) + 2), "", "out\nof 'memory'"),
        )
        seconds = {"loo_correlation": 1.25, "permutation_test": 2.5}
        assert not store.is_complete and store.failures() == failures
        assert store.seconds() == seconds
        store.end(6, first_of(5) + 3, "all")
        assert store.is_complete and not store.is_finished
        store.finish()
        assert store.failures() == failures and store.seconds() == seconds


def test_notes_are_gathered_before_and_after_finishing(tmp_path: Path) -> None:
    with Store.begin(tmp_path, MANIFEST) as store:
        for batch, threads in enumerate("212"):
            part = replace(made(batch), notes={"threads": threads, f"of {batch}": "é"})
            store.write(batch, part, first=first_of(batch), digest=digest(batch))
        notes = {"threads": ["1", "2"], "of 0": ["é"], "of 1": ["é"], "of 2": ["é"]}
        assert store.notes() == notes
        store.end(3, first_of(3), "all")
        store.finish()
        assert store.notes() == notes


def test_a_failed_batch_is_blank_until_it_succeeds(tmp_path: Path) -> None:
    with Store.begin(tmp_path, MANIFEST) as store:
        write(store, [0, 2])
        store.fail(1, first=first_of(1), size=size_of(1), digest=digest(1), reason="why")
        store.end(3, first_of(3), "all")
        store.finish()
        rows = slice(first_of(1), first_of(2))
        assert store.failed() == [1] and not store.holds(1, digest(1))
        assert store.column("instance").tolist() == list(range(first_of(3)))
        assert store.column("batch").tolist() == [0, *[1] * size_of(1), *[2] * size_of(2)]
        assert np.isnan(store.column("loo_correlation.statistic")[rows]).all()
        assert not store.column(COLUMNS[2][0])[rows].any()
        assert store.part(1).failures == {"": "why"} and len(store.part(1)) == size_of(1)
        with pytest.raises(AuditError, match="got another batch 1 than before"):
            store.holds(1, "other")
        write(store, [1])
        assert not store.is_finished and store.failed() == []
        with pytest.raises(AuditError, match="must be finished to be read by column"):
            store.column("batch")
        store.finish()
        for name, _ in COLUMNS:
            assert store.column(name).tobytes() == expected(name, 3).tobytes()
        assert store.failures() == ()


def test_finishing_twice_changes_nothing(tmp_path: Path) -> None:
    audited(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "columns").iterdir()}
    with Store.begin(tmp_path, MANIFEST) as store:
        store.finish()
    Store.open(tmp_path).finish()
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "columns").iterdir()}


def test_an_audit_of_nothing(tmp_path: Path) -> None:
    store = audited(tmp_path, 0)
    assert store.is_finished and len(store) == 0 and store.column("batch").shape == (0,)
    assert store.failures() == () and store.seconds() == {}


def test_missing_batches_are_named(tmp_path: Path) -> None:
    with Store.begin(tmp_path, MANIFEST) as store:
        write(store, [0, 4, 5])
        with pytest.raises(AuditError, match="must all have been seen"):
            store.missing()
        with pytest.raises(AuditError, match="must all have been seen"):
            store.finish()
        store.end(9, first_of(9), "all")
        assert store.missing() == [1, 2, 3, 6, 7, 8] and not store.is_complete
        with pytest.raises(AuditError, match=r"for batches 1 to 3, 6 to 8\. Run the same"):
            store.finish()
        with pytest.raises(AuditError, match="got 2, which was not"):
            store.part(2)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    store = audited(tmp_path)
    with pytest.raises(ValueError, match=f"below {len(store)} and not negative; got {len(store)}"):
        store.locate(len(store))
    with pytest.raises(ValueError, match="not negative; got -1"):
        store.locate(-1)
    with pytest.raises(ValueError, match="name must be a column; got 'nothing'"):
        store.column("nothing")


def test_data_must_be_the_same(tmp_path: Path) -> None:
    with Store.begin(tmp_path, MANIFEST) as store:
        write(store, range(3))
        store.end(3, first_of(3), "content")
        store.end(3, first_of(3), "content")
        for other in ((3, first_of(3), "other"), (4, 99, "content")):
            with pytest.raises(AuditError, match=rf"got {other[0]} batches .* before 3 batches"):
                store.end(*other)
        with pytest.raises(AuditError, match=r"got another batch 2 than before.*shuffle=False"):
            store.holds(2, "other")
        assert store.holds(2, digest(2)) and not store.holds(3, "whatever")
        write(store, [3])
        with pytest.raises(AuditError, match="and before batch 3"):
            store.end(3, first_of(3), "content")


def test_batches_must_follow_each_other(tmp_path: Path) -> None:
    with Store.begin(tmp_path, MANIFEST) as store:
        write(store, [0, 1])
        store.end(2, 99, "all")
        with pytest.raises(AuditError, match=f"must hold 99 instances in all; got {first_of(2)}"):
            store.finish()
        store.write(1, made(1), first=0, digest=digest(1))
        with pytest.raises(AuditError, match="got 1, which begins with instance 0 where 1 is due"):
            store.finish()
        assert not store.is_finished


def test_a_closed_store_can_only_be_read(tmp_path: Path) -> None:
    with Store.begin(tmp_path, MANIFEST) as store:
        write(store, [0])
    store.close()
    assert_same(store.part(0), made(0))
    for reader in (store, Store.open(tmp_path)):
        with pytest.raises(AuditError, match="must be open for writing"):
            write(reader, [1])
