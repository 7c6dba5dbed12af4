"""audit(): the numbers of the public functions, gone on with, shared, recorded."""

from __future__ import annotations

import gc
import json
import math
import os
import re
import tempfile
import weakref
from collections import UserDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from faithattn import (
    AdapterError,
    AttentionView,
    AuditError,
    Batch,
    Question,
    Report,
    Score,
    adversarial_attention,
    audit,
    faithfulness_violation,
    gradient_correlation,
    loo_correlation,
    merge,
    permutation_test,
)
from faithattn.audits.comparing import Change
from faithattn.paper.models import TextClassifier
from faithattn.paper.training import build
from faithattn.results.shares import share_interval
from faithattn.statistics import (
    benjamini_hochberg,
    compare_means,
    describe,
    mean_pvalue,
    minimum_detectable_effect,
    null_band,
)

FOUR = ("gradient_correlation", "loo_correlation", "permutation_test", "adversarial_attention")
SEED = 5


@pytest.fixture(scope="module")
def model() -> TextClassifier:
    options = {"embedding_size": 8, "hidden_size": 4}
    return build(lambda: TextClassifier(30, encoder="average", **options), seed=0).eval()


def texts(count: int = 4, size: int = 3) -> list[Tensor]:
    """Batches of texts of two to eight words."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(count):
        ids = torch.randint(4, 30, (size, 10), generator=generator)
        lengths = torch.randint(2, 9, (size,), generator=generator)
        place = torch.arange(10)
        ids[:, 0] = 2
        ids[place > lengths[:, None] + 1] = 0
        ids[torch.arange(size), lengths + 1] = 3
        found.append(ids[:, : int(lengths.max()) + 2])
    return found


def columns(report: Report) -> dict[str, bytes]:
    return {name: np.asarray(report.column(name)).tobytes() for name in report.columns}


class Stopping:
    """Batches that end with an error after so many."""

    def __init__(self, batches: list[Tensor], after: int) -> None:
        self.batches, self.after = batches, after

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.batches[: self.after]
        raise ConnectionError("the data are gone")


class Counting(nn.Module):
    """Hands on to a model and counts the instances that are run."""

    def __init__(self, model: TextClassifier) -> None:
        super().__init__()
        self.model = model
        self.seen = 0

    def run(self, inputs: Any, **overrides: Any) -> Any:
        self.seen += len(inputs)
        return self.model.run(inputs, **overrides)

    def replay(self, state: Any, attention: Any) -> Any:
        return self.model.replay(state, attention)

    def remove(self, inputs: Any, positions: Tensor) -> Any:
        return self.model.remove(inputs, positions)


class Failing(Counting):
    """Fails on texts that hold a word."""

    bad = 29

    def run(self, inputs: Any, **overrides: Any) -> Any:
        if (inputs == self.bad).any():
            raise ArithmeticError("an unlucky word\nin two lines")
        return super().run(inputs, **overrides)


def test_columns_are_those_of_the_public_functions(model: TextClassifier) -> None:
    batches = texts()
    report = audit(model, batches, seed=SEED)
    ids = torch.arange(12).split(3)
    pairs = list(zip(batches, ids, strict=True))
    expected = {
        "gradient_correlation.pvalue": [gradient_correlation(model, x).pvalue for x, _ in pairs],
        "loo_correlation.pvalue": [loo_correlation(model, x).pvalue for x, _ in pairs],
        "permutation_test.median_tvd": [
            permutation_test(model, x, seed=SEED, instances=i).median_tvd for x, i in pairs
        ],
        "adversarial_attention.max_jsd": [
            adversarial_attention(model, x, seed=SEED, instances=i).max_jsd for x, i in pairs
        ],
    }  # fmt: skip
    for name, values in expected.items():
        assert np.array_equal(report.column(name), torch.cat(values).double(), equal_nan=True), name
    assert [each.metric for each in report.evidence if each.metric in FOUR] == list(FOUR)
    assert report.column("instance").tolist() == list(range(12))
    assert len(report) == 12 and report.complete


def test_an_audit_goes_on_where_it_was_stopped(model: TextClassifier, tmp_path: Path) -> None:
    batches = texts()
    whole = audit(model, batches, out=tmp_path / "whole")
    counting = Counting(model)
    with pytest.raises(ConnectionError):
        audit(counting, Stopping(batches, 3), out=tmp_path / "parts")
    seen, counting.seen = counting.seen, 0
    resumed = audit(counting, batches, out=tmp_path / "parts")
    assert 0 < counting.seen < seen
    assert columns(resumed) == columns(whole)
    counting.seen = 0
    again = audit(counting, batches, out=tmp_path / "parts")
    assert counting.seen == 0
    assert columns(again) == columns(whole)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 1}, "seed"),
        ({"metrics": ["loo_correlation"]}, "metrics"),
        ({"removal": "mask_attention"}, "removal"),
        ({"model": "other"}, "model"),
        ({"batches": "reversed"}, "batch 0"),
        ({"batches": "fewer"}, "batches"),
    ],
)
def test_what_changed_is_named(
    changed: dict[str, Any], said: str, model: TextClassifier, tmp_path: Path
) -> None:
    batches = texts(2)
    audit(model, batches, metrics=["permutation_test"], out=tmp_path / "a")
    options: dict[str, Any] = {"metrics": ["permutation_test"], "out": tmp_path / "a"} | changed
    other = options.pop("model", None)
    if other:
        state = {name: value + 1e-3 for name, value in model.state_dict().items()}
        again = TextClassifier(**model.config)
        again.load_state_dict(state)
        model = again
    order = options.pop("batches", None)
    given = {"reversed": batches[::-1], "fewer": batches[:1], None: batches}[order]
    with pytest.raises(AuditError, match=said):
        audit(model, given, **options)


def test_a_batch_that_fails_is_recorded_or_raised(model: TextClassifier, tmp_path: Path) -> None:
    batches = texts()
    batches[2][1, 1] = Failing.bad
    unlucky = [number for number, ids in enumerate(batches) if (ids == Failing.bad).any()]
    with pytest.raises(ArithmeticError):
        audit(Failing(model), batches)
    report = audit(Failing(model), batches, on_error="record", out=tmp_path)
    assert [each.batch for each in report.failures] == unlucky
    first = report.failures[0]
    assert first.instances == (3 * unlucky[0], 3 * unlucky[0] + 2)
    assert first.reason == "ArithmeticError: an unlucky word in two lines"
    assert len(report) == 12
    assert report.evidence[0].failed == 3 * len(unlucky)
    assert report.evidence[0].overall.undefined >= 3 * len(unlucky)
    values = report.column("permutation_test.median_tvd")
    assert np.isnan(values[3 * unlucky[0] : 3 * unlucky[0] + 3]).all()
    # Run again it tries again.
    assert audit(Failing(model), batches, on_error="record", out=tmp_path).failures == (
        report.failures
    )


class Flaky:
    """Why a metric fails on the second batch; empty where it does not."""

    reason = "odd"


def flaky(question: Question) -> Tensor:
    if Flaky.reason and int(question.instances[0]) == 3:
        raise ArithmeticError(Flaky.reason)
    return question.scores.sum(-1)


def test_a_recorded_failure_of_a_metric_is_raised_or_mended(
    model: TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where errors are to be raised, what was recorded is tried again."""
    asked = {"metrics": [Score("flaky", "sums", True, compute=flaky)], "out": tmp_path}
    assert audit(model, texts(), on_error="record", **asked).evidence[0].failed == 3
    with pytest.raises(ArithmeticError, match="odd"):
        audit(model, texts(), **asked)
    monkeypatch.setattr(Flaky, "reason", "")
    assert audit(model, texts(), on_error="record", **asked).failures  # nothing was asked again
    mended = audit(model, texts(), **asked)
    assert not mended.failures and mended.evidence[0].overall.undefined == 0


def test_shards_share_a_folder(model: TextClassifier, tmp_path: Path) -> None:
    batches, whole = texts(5), audit(model, texts(5))
    first = audit(model, batches, out=tmp_path, shard=(0, 2))
    assert not first.complete
    assert "12" not in str(len(first))
    second = audit(model, batches, out=tmp_path, shard=(1, 2))
    assert second.complete
    assert columns(second) == columns(whole)


@pytest.mark.parametrize(
    ("shard", "error", "said"),
    [
        ((2, 2), ValueError, "0 to 1"),
        ((-1, 2), ValueError, "at least 0"),
        ("0/2", TypeError, "pair"),
        ((0, 0), ValueError, "at least 1"),
    ],
)
def test_wrong_shards(shard: Any, error: type[Exception], said: str, model: TextClassifier) -> None:
    with pytest.raises(error, match=said):
        audit(model, texts(1), shard=shard)


@pytest.mark.parametrize(
    ("batches", "error", "said"),
    [
        ([], ValueError, "at least one batch"),
        (torch.ones(2, 3), TypeError, "iterable of batches"),
        (np.ones((2, 3)), TypeError, "got ndarray. If it is one batch, put it into a list"),
        (UserDict(ids=torch.ones(2, 3)), TypeError, "got UserDict. If it is one batch"),
        ([object()], (TypeError, ValueError), "batch"),
        ([torch.ones(0, 4, dtype=torch.long)], ValueError, "none in batch 0"),
        ([Batch(torch.ones(2, 4, dtype=torch.long), labels=[1])], ValueError, "labels must have"),
    ],
)
def test_wrong_batches(batches: Any, error: Any, said: str, model: TextClassifier) -> None:
    with pytest.raises(error, match=said):
        audit(model, batches)


def test_wrong_settings(model: TextClassifier) -> None:
    with pytest.raises(ValueError, match="on_error must be one of raise, record"):
        audit(model, texts(1), on_error="ignore")
    with pytest.raises(ValueError, match="permutation_test"):
        audit(model, texts(1), metrics=["permutation"])


def test_what_is_known_about_instances(model: TextClassifier) -> None:
    batches = [
        Batch(ids, labels=[0, 1, 1], tokens=[[f"w{i}" for i in row] for row in ids.tolist()],
              clusters=["a", "a", "b"])
        for ids in texts()
    ]  # fmt: skip
    report = audit(model, batches, metrics=["loo_correlation"])
    assert report.column("label").tolist() == [0, 1, 1] * 4
    assert set(report.evidence[0].groups["label"]) == {"0", "1"}
    assert report.clusters is not None and len(np.unique(report.clusters)) == 2
    (instance,) = report.instances([4])
    ids = batches[1].inputs[1]
    assert list(instance.tokens) == [f"w{i}" for i in ids.tolist() if i > 3]
    assert sum(instance.scores["attention"]) == pytest.approx(1, abs=1e-6)
    assert instance.values["label"] == 1


def test_batches_may_come_in_inference_mode(model: TextClassifier) -> None:
    expected = columns(audit(model, texts(), metrics=["gradient_correlation"]))
    with torch.inference_mode():
        given = (each for each in [None] for each in texts())
        report = audit(model, given, metrics=["gradient_correlation"])
        assert torch.is_inference_mode_enabled()
    assert columns(report) == expected


def test_prepare_makes_batches(model: TextClassifier) -> None:
    rows = [{"ids": ids, "stars": [1, 0, 1]} for ids in texts()]
    report = audit(
        model,
        rows,
        metrics=["permutation_test"],
        prepare=lambda row: Batch(row["ids"], labels=row["stars"]),
    )
    assert report.column("label").tolist() == [1, 0, 1] * 4


def test_several_views_have_columns_of_their_own(model: TextClassifier) -> None:
    views = {"one": AttentionView.only(), "two": AttentionView("attention")}
    report = audit(model, texts(2), metrics=["loo_correlation"], view=views)
    assert [each.view for each in report.evidence] == ["one", "two"]
    one, two = (report.column(f"loo_correlation.statistic@{name}") for name in views)
    assert np.array_equal(one, two, equal_nan=True)
    assert all(each.adjusted is not None for each in report.evidence)


def test_a_report_lists_and_describes(model: TextClassifier) -> None:
    report = audit(model, texts())
    json.dumps(report.provenance, allow_nan=False)
    assert report.provenance["instances"] == 12
    rows = list(report.records())
    assert len(rows) == 12 and set(rows[0]) == set(report.columns)
    for row in rows:
        assert all(value is None or math.isfinite(value) for value in row.values())
    assert len(set(report.telling(6))) == 6
    with pytest.raises(KeyError, match="name must be one of"):
        report.column("nothing")


def test_a_report_is_a_data_frame(model: TextClassifier) -> None:
    pd = pytest.importorskip("pandas")
    report = audit(model, texts())
    frame = report.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame.index.tolist() == list(range(12))
    assert set(frame.columns) == set(report.columns) - {"instance"}


def test_two_reports_are_compared(model: TextClassifier) -> None:
    report = audit(model, texts())
    same = report.compare(audit(model, texts()))
    assert same.paired
    assert all(each.difference.mean == 0 for each in same.changes)
    assert {each.direction for each in same.changes} == {"no difference shown"}
    other = report.compare(audit(model, texts(5)))
    assert not other.paired
    with pytest.raises(AuditError, match="in common"):
        audit(model, texts(), metrics=["loo_correlation"]).compare(
            audit(model, texts(), metrics=["permutation_test"])
        )


def test_other_instances_of_the_same_data_are_no_pairs(
    model: TextClassifier, tmp_path: Path
) -> None:
    """Shards have seen all data, and unfinished audits nobody knows which."""

    def ending(batches: list[Tensor]) -> Iterator[Tensor]:
        yield from batches
        raise OSError("gone")

    asked = {"metrics": ["permutation_test"]}
    shards = [
        audit(model, texts(), out=tmp_path / str(shard), shard=(shard, 2), **asked)
        for shard in range(2)
    ]
    for name, batches in (("some", texts(2)), ("reversed", texts(2)[::-1])):
        with pytest.raises(OSError, match="gone"):
            audit(model, ending(batches), out=tmp_path / name, **asked)
    some, other = (Report.open(tmp_path / name) for name in ("some", "reversed"))
    assert not shards[0].compare(shards[1]).paired
    assert not shards[0].compare(audit(model, texts(), **asked)).paired
    assert not some.compare(other).paired and not some.compare(shards[0]).paired
    assert shards[0].compare(Report.open(tmp_path / "0")).paired


def test_clusters_count_where_others_are_compared(model: TextClassifier) -> None:
    asked = {"metrics": ["permutation_test"]}
    grouped, alone = (
        audit(model, [Batch(each, clusters=named) for each in texts(8)], **asked)
        for named in ([0, 0, 1], None)
    )
    single = audit(model, texts(9), **asked)
    values = [each.column("permutation_test.median_tvd") for each in (single, grouped)]
    expected = compare_means(*values, paired=False, clusters=(None, grouped.clusters))
    assert grouped.compare(single).changes[0].difference == expected
    assert alone.compare(single).changes[0].difference != expected


@pytest.mark.parametrize(
    ("low", "high", "larger", "direction"),
    [
        (0.1, 0.2, True, "more faithful"),
        (0.1, 0.2, False, "less faithful"),
        (-0.2, -0.1, True, "less faithful"),
        (-0.2, -0.1, False, "more faithful"),
        (-0.1, 0.1, True, "no difference shown"),
        (0.0, 0.0, True, "no difference shown"),
        (math.nan, math.nan, True, "no difference shown"),
    ],
)
def test_the_interval_of_a_change_points(
    low: float, high: float, larger: bool, direction: str
) -> None:
    difference = compare_means([1.0, 2.0], [1.0, 2.0], paired=True)
    change = Change("m", "", "numbers", larger, replace(difference, low=low, high=high), 1.0)
    assert change.direction == direction


def test_statistics_are_those_of_whole_clusters(model: TextClassifier) -> None:
    """Some instances share one; the last has none, and no number either."""
    batches = [
        Batch(each, clusters=[number // 2, number // 2, 100 + number], labels=[0, 1, 1])
        for number, each in enumerate(texts(8))
    ]
    batches.append(Batch(torch.tensor([[2, 5, 3]])))  # of one word: undefined
    report = audit(model, batches, metrics=["gradient_correlation", "loo_correlation"])
    tau, clusters = report.evidence[1], report.clusters
    values = np.asarray(report.column("loo_correlation.statistic"))
    pvalues = np.asarray(report.column("loo_correlation.pvalue"))
    assert str(tau.overall) == str(describe(values, pvalues, clusters=clusters))
    assert tau.pvalue == mean_pvalue(values, 0.0, clusters=clusters)
    assert tau.detectable == minimum_detectable_effect(values, clusters=clusters)
    agreement = np.asarray(report.column("gradient_loo.statistic"))
    assert str(tau.ceiling) == str(describe(agreement, clusters=clusters))
    random = np.asarray(report.column("loo_correlation.random"))
    assert str(tau.controls["random"]) == str(describe(random, clusters=clusters))
    ones = np.asarray(report.column("label")) == 1
    expected = describe(values[ones], pvalues[ones], clusters=clusters[ones])
    assert str(tau.groups["label"]["1"]) == str(expected)
    assert tau.significant == benjamini_hochberg(pvalues)[0].sum()
    assert tau.null == null_band(np.asarray(report.column("length"))[~np.isnan(values)])
    assert describe(values, pvalues).low != tau.overall.low


def test_instances_of_an_audit_that_is_not_finished(model: TextClassifier, tmp_path: Path) -> None:
    """Batches 1 and 3 of four, of three instances each."""
    report = audit(model, texts(), out=tmp_path, shard=(1, 2))
    whole = audit(model, texts())
    assert str(report.instances([4, 9, 11])) == str(whole.instances([4, 9, 11]))  # nan is nan
    assert "<html" in report.html()
    with pytest.raises(ValueError, match="ids of instances that were measured; got 2"):
        report.instances([2])


def test_nothing_about_the_model_changes(model: TextClassifier) -> None:
    train = in_training(model)
    before = {name: value.clone() for name, value in train.state_dict().items()}
    state = torch.get_rng_state()
    audit(train, texts(2))
    assert train.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in train.state_dict().items())
    assert all(value.grad is None for value in train.parameters())


def in_training(model: TextClassifier) -> TextClassifier:
    copy = TextClassifier(**model.config)
    copy.load_state_dict(model.state_dict())
    return copy.train()


class Reader(nn.Module):
    """A plain module that takes ids alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(30, 4, padding_idx=0), nn.Linear(4, 2)

    def forward(self, ids: Tensor) -> Tensor:
        states = self.embed(ids)
        attention = states.sum(-1).masked_fill(ids == 0, -1e9).softmax(-1)
        return self.out((attention[..., None] * states).sum(1))


def test_a_loader_of_pairs_is_told_of_prepare() -> None:
    pairs = torch.utils.data.TensorDataset(torch.cat([texts(1)[0]] * 2), torch.arange(6) % 2)
    loader = torch.utils.data.DataLoader(pairs, batch_size=3)
    for batches in (loader, [tuple(pair) for pair in loader]):
        with pytest.raises((AdapterError, TypeError), match="prepare=lambda pair: Batch"):
            audit(Reader(), batches, metrics=["permutation_test"])
    report = audit(
        Reader(),
        loader,
        metrics=["permutation_test"],
        prepare=lambda pair: Batch(pair[0], labels=pair[1]),
    )
    assert report.column("label").tolist() == [0, 1] * 3


def test_a_loader_of_mappings_is_told_of_prepare() -> None:
    given = [{"ids": each, "label": torch.tensor([0, 1, 0])} for each in texts(2)]
    told = (
        "Where the model takes no label, pass prepare=lambda batch: Batch({name: value for name, "
        "value in batch.items() if name != 'label'}, labels=batch['label'])."
    )
    with pytest.raises(AdapterError, match=re.escape(told)):
        audit(Reader(), given, metrics=["permutation_test"])
    prepare = eval(told.partition("prepare=")[2].rstrip("."))  # as it is told
    report = audit(Reader(), given, metrics=["permutation_test"], prepare=prepare)
    assert report.column("label").tolist() == [0, 1, 0] * 2


def test_an_audit_without_a_folder_leaves_nothing(
    model: TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And waits for no disk."""

    def waits(_: int) -> None:
        raise AssertionError("fsync")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "fsync", waits)
    report = audit(model, texts(1), metrics=["permutation_test"])
    assert [*tmp_path.iterdir()] == [report.folder]
    del report
    gc.collect()
    assert not [*tmp_path.iterdir()]
    with pytest.raises(ValueError, match="at least one batch"):
        audit(model, [], metrics=["permutation_test"])
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_the_folder_to_its_parent(model: TextClassifier) -> None:
    report = audit(model, texts(1), metrics=["permutation_test"])
    pid = os.fork()
    if pid == 0:
        weakref.finalize._exitfunc()  # type: ignore[attr-defined]  # as at the end of Python
        os._exit(0)
    os.waitpid(pid, 0)
    folder = report.folder
    assert folder.is_dir()
    del report
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"model": TextClassifier}, TypeError, "got the class TextClassifier. Make one"),
        ({"batches": texts}, TypeError, "got function. Call it"),
        ({"batches": Batch(torch.ones(1, 3))}, TypeError, "put it into a list"),
        ({"batches": [Batch(torch.ones(1, 3), labels=1)]}, TypeError, "labels must .* Pass a list"),
        ({"prepare": "encode"}, TypeError, "prepare must be a function"),
        ({"out": 5}, TypeError, "out must be the path of a folder; got int"),
        ({"device": "graphics"}, ValueError, "device must be one that this machine has"),
        ({"thresholds": {"least_tau": 0.5}}, TypeError, "thresholds must be Thresholds"),
    ],
)
def test_wrong_arguments(
    options: dict[str, Any], error: type[Exception], said: str, model: TextClassifier
) -> None:
    with pytest.raises(error, match=said):
        audit(**{"model": model, "batches": texts(1), "metrics": ["permutation_test"]} | options)


def test_reports_want_reports(model: TextClassifier, tmp_path: Path) -> None:
    report = audit(model, texts(1), metrics=["permutation_test"], out=tmp_path / "a")
    assert repr(report) == f"Report(3 instances in {tmp_path / 'a'})"
    with pytest.raises(TypeError, match="other must be a Report; got PosixPath"):
        report.compare(tmp_path / "a")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="folders must be several"):
        merge(str(tmp_path / "a"), tmp_path / "b")
    with pytest.raises(TypeError, match="thresholds must be Thresholds"):
        Report.open(tmp_path / "a", thresholds={})  # type: ignore[arg-type]


def test_pages_of_several_views_have_a_line_for_each(model: TextClassifier) -> None:
    views = {f"layer 0, head {head}": AttentionView("attention") for head in range(4)}
    report = audit(model, texts(2), metrics=["loo_correlation", "permutation_test"], view=views)
    page, summary = report.html(), str(report)
    for name in views:
        assert summary.count(name) == 4  # a verdict and a line of the table of each test
        assert page.count(name) > 4
    assert "by layer and head" in page
    assert "each of 4 attentions was judged by itself" in summary
    assert "Rule:" not in summary and "Supports if" in page


def test_shares_have_the_interval_of_wilson(model: TextClassifier) -> None:
    batches = texts(8)
    report = audit(model, batches, metrics=["faithfulness_violation", "adversarial_attention"])
    share, adversary = report.evidence
    found = [faithfulness_violation(model, ids).violated for ids in batches]
    low, high = share_interval(torch.cat(found))
    assert (share.overall.low, share.overall.high) == (low, high)
    free = adversary.further["unhindered"]
    count = free.n - free.undefined
    low, high = share_interval(torch.arange(count).lt(round(free.mean * count)).double())
    assert (free.low, free.high) == pytest.approx((low, high))


def test_clusters_are_counted_where_there_is_a_value(model: TextClassifier) -> None:
    batches = [Batch(ids, clusters=["a", "b", "c"]) for ids in texts(6)]
    (found,) = audit(model, batches, metrics=["permutation_test"]).evidence
    assert found.clusters == 3
    (verdict,) = audit(model, batches, metrics=["permutation_test"]).verdicts
    assert verdict.conclusion == "cannot tell" and "only 3 clusters" in verdict.because
    assert audit(model, texts(6), metrics=["permutation_test"]).evidence[0].clusters is None
