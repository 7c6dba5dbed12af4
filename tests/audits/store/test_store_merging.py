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
    with_seed,
    write,
)

from faithattn.audits.store import Manifest, Store, merge
from faithattn.errors import AuditError


def shard(
    folder: Path, batches: range | list[int], *, manifest: Manifest = MANIFEST, end: str = "all"
) -> Path:
    """Some batches of an audit of twelve."""
    with Store.begin(folder, manifest) as store:
        write(store, batches)
        if end:
            store.end(12, first_of(12), end)
    return folder


def test_shards_together_are_the_whole(tmp_path: Path) -> None:
    shards = [shard(tmp_path / str(number), range(number, 12, 3)) for number in range(3)]
    store = merge(shards, tmp_path / "out")
    whole = audited(tmp_path / "whole")
    assert store.is_finished and store.manifest == MANIFEST
    assert store.failures() == whole.failures() and store.seconds() == whole.seconds()
    for name, _ in COLUMNS:
        assert store.column(name).tobytes() == expected(name).tobytes()
    for batch in range(12):
        assert_same(store.part(batch), made(batch))
    again = merge([*shards, tmp_path / "out"], tmp_path / "out")
    assert again.column("batch").tobytes() == expected("batch").tobytes()


def test_a_batch_in_several_shards_must_be_the_same_but_for_its_time(tmp_path: Path) -> None:
    one, two = shard(tmp_path / "1", range(8)), shard(tmp_path / "2", range(5, 12))
    slower = replace(made(6), seconds={"loo_correlation": 99.0})
    changed = made(6)
    column = changed.columns["permutation_test.pvalue"].copy()
    column[0] = np.nextafter(column[0], 1)
    changed = replace(changed, columns={**changed.columns, "permutation_test.pvalue": column})
    with Store.begin(two, MANIFEST) as store:
        store.write(6, slower, first=first_of(6), digest=digest(6))
    assert merge([one, two], tmp_path / "out").seconds()["loo_correlation"] == 0.25 * 12
    with Store.begin(two, MANIFEST) as store:
        store.write(6, changed, first=first_of(6), digest=digest(6))
    with pytest.raises(AuditError, match=r"got another batch 6 in .*2 than in .*1\. Leave one"):
        merge([one, two], tmp_path / "other")


def test_missing_batches_are_named_before_anything_is_written(tmp_path: Path) -> None:
    one, two = shard(tmp_path / "1", range(3)), shard(tmp_path / "2", [4, 5, 11], end="")
    with pytest.raises(AuditError, match=r"together; got none for batches 3, 6 to 10\. Run"):
        merge([one, two], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_damaged_in_one_may_be_whole_in_another(tmp_path: Path) -> None:
    one, two = shard(tmp_path / "1", range(12)), shard(tmp_path / "2", [7])
    path = one / "parts" / "00000007.npz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AuditError, match="got none for batch 7"):
        merge([one], tmp_path / "out")
    store = merge([one, two], tmp_path / "out")
    assert_same(store.part(7), made(7))


def test_a_failure_stays_one_unless_another_shard_succeeded(tmp_path: Path) -> None:
    one, two = shard(tmp_path / "1", range(10)), shard(tmp_path / "2", [10])
    with Store.begin(two, MANIFEST) as store:
        for batch in (9, 11):
            store.fail(
                batch, first=first_of(batch), size=size_of(batch), digest=digest(batch),
                reason="why",
            )  # fmt: skip
    store = merge([one, two], tmp_path / "out")
    assert store.failed() == [11] and store.failures()[-1].reason == "why"
    assert_same(store.part(9), made(9))
    assert len(store.column("batch")) == first_of(12)


def test_shards_of_different_audits_are_refused(tmp_path: Path) -> None:
    one = shard(tmp_path / "1", range(12))
    other = shard(tmp_path / "2", range(12), manifest=with_seed(1))
    data = shard(tmp_path / "3", range(12), end="other")
    stopped = shard(tmp_path / "4", range(12), end="")
    with pytest.raises(AuditError, match=r"got .*2, where other than in .*1 seed was 0 and is 1"):
        merge([one, other], tmp_path / "out")
    with pytest.raises(AuditError, match=r"same data; got 12 batches of .*content other"):
        merge([one, data], tmp_path / "out")
    with pytest.raises(AuditError, match="saw all its batches; got none that did"):
        merge([stopped], tmp_path / "out")
    with pytest.raises(ValueError, match="folders must be at least one"):
        merge([], tmp_path / "out")
    assert not (tmp_path / "out").exists()
