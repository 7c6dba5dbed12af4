"""What the benchmarks print, and that the plain loops compute what our tests compute."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread

from faithattn import (
    exact_adversary,
    gradient_correlation,
    jensen_shannon_divergence,
    loo_correlation,
    permutation_test,
)
from tests.benchmarks import data, loops, peak, pieces, plots, sweep, table, timing
from tests.benchmarks.timing import Row


def row(**changed: object) -> Row:
    values = {"task": "a task", "ours": 0.0125, "baseline": 1.5, "ratio": 0.0083, "noise": 0.001}
    return Row(**(values | {"against": "a loop"} | changed))


def test_a_line_says_all_there_is() -> None:
    full = row(goal=1 / 60, limit=1.2345, unit="F", peak=12.4)
    words = table.line(full).split()
    assert words[:2] == ["a", "task"]
    assert words[2:6] == ["12.5", "ms", "1.50", "s"]
    assert words[6:] == ["0.0083", "0.0010", "0.0167", "1.23", "F", "12", "a", "loop"]
    assert len(table.HEAD) <= table.WIDTH


def test_what_is_missing_is_left_out() -> None:
    empty = table.line(row(baseline=math.nan, ratio=math.nan, noise=math.nan))
    assert empty.split() == ["a", "task", "12.5", "ms", "-", "-", "-", "a", "loop"]


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({}, False),
        ({"goal": 0.01}, False),
        ({"goal": 0.0083}, False),
        ({"goal": 0.008}, True),
        ({"goal": 1.0, "ratio": math.nan}, True),
        ({"goal": 1.0, "broken": "a lower divergence"}, True),
    ],
)
def test_a_missed_goal_is_marked_and_listed(changed: dict[str, object], missed: bool) -> None:
    one = row(**changed)
    assert ("!" in table.line(one)) == missed
    assert "!" not in table.line(one, judged=False)
    lines = table.missed([one, row()])
    goals = int("goal" in changed)
    assert lines[0] == f"{goals - missed} of {goals} goals are met"
    assert len(lines) == 1 + missed
    if "broken" in changed:
        assert "a lower divergence" in lines[1]


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.34, "12.3 s"), (0.5, "500 ms"), (2.5e-4, "250 us"), (1e-8, "0.01 us"), (math.nan, "-")],
)
def test_durations(value: float, text: str) -> None:
    assert table.duration(value) == text


def test_ratios_of_measured_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "seconds", lambda work: work())  # works that say what they take
    works = (lambda: 3.0, lambda: 0.5, lambda: 2.0)
    for repeats in (1, 4):
        whole = timing.compared("", *works[:2], repeats, "", 7, unit="F", limit=works[2])
        assert (whole.ours, whole.baseline, whole.ratio) == (3.0, 0.5, 6.0)
        assert (whole.limit, whole.unit, whole.noise, whole.missed) == (1.5, "F", 0.0, False)
        share = timing.compared("", *works[:2], repeats, "", 0.5, times=10, unit="F")
        assert (share.baseline, share.ratio, share.limit, share.missed) == (5.0, 0.6, 0.6, True)
    slow = timing.once("", *works[:2], "", times=3, unit="F", limit=works[2])
    assert (slow.ours, slow.baseline, slow.ratio, slow.limit, slow.peak) == (3, 1.5, 2, 1.5, None)
    alone = timing.compared("", works[0], None, 2, "", unit="F", limit=works[2])
    assert math.isnan(alone.ratio) and alone.limit == 1.5
    each = timing.within("", works[0], 3, 0.5, calls=10)
    assert (each.ours, each.ratio, each.goal) == (pytest.approx(0.3), pytest.approx(0.6), 1.0)


def test_the_order_of_each_pair_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def seconds(work: timing.Work) -> float:
        called.append(str(work()))
        return 1.0 + len(called)

    monkeypatch.setattr(timing, "seconds", seconds)
    found = timing.compared("", lambda: "a", lambda: "b", 3, "")
    assert called == ["a", "b", "b", "a", "a", "b"]  # which take 2, 3, 4, ... seconds
    assert (found.ours, found.baseline, found.ratio) == (5, 4, pytest.approx(6 / 7))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
def test_the_peak_is_that_of_the_call_alone() -> None:
    earlier = torch.ones(8 << 20)
    del earlier
    assert peak.peak_of(lambda: torch.ones(1 << 18)) == pytest.approx(1, abs=2)
    assert peak.peak_of(lambda: torch.ones(8 << 20)) == pytest.approx(32, abs=4)


def test_the_loops_compute_what_our_tests_compute() -> None:
    model, ids = data.classifier(small=True), data.sst_like(2)[1][:4]
    with torch.no_grad():
        batch = loops.encoded(model, ids)
    tau = gradient_correlation(model, ids, tie_tolerance=0).statistic
    torch.testing.assert_close(loops.gradient(model, ids).float(), tau, atol=0.02, rtol=0)
    tau = loo_correlation(model, ids, tie_tolerance=0).statistic
    torch.testing.assert_close(loops.leave_one_out(model, ids).float(), tau, atol=0.02, rtol=0)
    median = permutation_test(model, ids, n_permutations=400, seed=0).median_tvd
    theirs = loops.permutation(batch, 400).median(0).values
    torch.testing.assert_close(theirs, median, atol=0.03, rtol=0)
    scores = torch.nn.functional.linear(batch.states, model.decoder.weight)[..., 0]
    bias = model.decoder.bias.detach().expand(len(ids))
    _, best = exact_adversary(batch.weights, scores.detach(), bias, epsilon=0.01, mask=batch.mask)
    found = loops.search(batch, 300)
    assert (found > 0.5 * best).all()
    assert (found <= best + 1e-4).all()
    loops.whole_forward_search(model, ids, batch, 1)


@pytest.mark.parametrize("length", [1, 2, 17])
@pytest.mark.parametrize("epsilon", [0.01, 0.4])
def test_every_pair_is_the_exact_adversary(length: int, epsilon: float) -> None:
    weights, scores = pieces.uneven(5, length)
    found = torch.tensor(pieces.best_vertices(weights, scores, epsilon))
    _, best = exact_adversary(weights, scores, 0.0, epsilon=epsilon)
    torch.testing.assert_close(found.float(), best, atol=1e-6, rtol=0)
    other = scores.softmax(-1)
    loop = torch.tensor(pieces.divergences(weights, other))
    ours = jensen_shannon_divergence(weights, other)
    torch.testing.assert_close(loop.float(), ours, atol=1e-6, rtol=0)
    assert pieces.shuffles(weights, 3).shape == (3, 5, length)


def test_models_are_as_uneven_as_trained_ones() -> None:
    model, ids = data.classifier(), data.texts(8, 20)
    with torch.no_grad():
        run = model.run(ids)
        logits = run.state[..., 0] + model.decoder.bias
    assert logits[run.mask].std() == pytest.approx(2, abs=0.3)
    assert logits[run.mask].mean() == pytest.approx(0, abs=0.3)
    assert run.attention["attention"][run.mask].log().std() == pytest.approx(1.5, abs=0.3)


def test_the_sweep_is_drawn(tmp_path: Path) -> None:
    cells = [
        sweep.Cell(
            axis,
            sweep.Setting()._replace(**{axis: value}),
            f"{name}, BiLSTM",
            row(ours=value * 1e-3, baseline=value * 1e-2),
        )
        for axis in "TNKP"
        for name in ("permutation_test", "adversarial_attention, exact")
        for value in (1, 8, 64)
    ]
    pixels = imread(plots.draw(cells, tmp_path / "plots"))
    assert pixels.shape[0] > 800
    assert pixels[..., :3].std() > 0.01
    half = imread(plots.draw(cells[:12], tmp_path / "half"))
    assert (half[-400:-150] == 1).all() and not (pixels[-400:-150] == 1).all()
    with pytest.raises(ValueError, match="cells must hold one of, BiLSTM; got none"):
        plots.draw([], tmp_path)
