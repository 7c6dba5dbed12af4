"""Calibration: metrics known to be right, wrong or blind get the probability they deserve."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from faithattn import Calibration, Question, Score, calibrate, gradient_correlation, kendall_tau
from faithattn.errors import AdapterError
from faithattn.planted.calibration.cells import Cell, wilson
from faithattn.planted.calibration.pairs import make_setting

SMALL = {"lengths": (5,), "depths": (0, 1), "sizes": (1, 3), "n_pairs": 20}


def score(compute: object, *, larger: bool = True, only: bool = False, name: str = "own") -> Score:
    return Score(name, "a metric of the test", larger, attention_only=only, compute=compute)


def oracle(question: Question) -> Tensor:
    """Knows how far the model's output does without attention, and what each word does."""
    if question.explanation == "attention":
        return torch.full((len(question.inputs),), 1 - question.model.unused)
    truth = question.model.truth(question.inputs)
    return kendall_tau(question.explanation, truth).statistic


def noise(question: Question) -> Tensor:
    """Normal numbers that know nothing: of the text and of what is asked about it."""
    given = question.explanation
    about = question.model.unused if isinstance(given, str) else given[:, 0].abs().sum()
    seed = hash((int(question.instances[0]), float(about), len(question.inputs)))
    generator = torch.Generator().manual_seed(abs(seed) % 2**31)
    return torch.randn(len(question.inputs), generator=generator)


def test_a_metric_that_knows_is_always_right() -> None:
    found = calibrate([score(oracle)], **SMALL)
    assert {cell.probability for cell in found.cells} == {1.0}
    assert found.passes("own", "models") and found.passes("own", "explanations")
    assert found.verdict("own", "models") == "passes"
    inverted = calibrate([score(oracle, larger=False)], **SMALL)
    assert {cell.probability for cell in inverted.cells} == {0.0}
    assert inverted.verdict("own", "models").startswith("ranks the wrong way at length 5, depth 0")


def test_a_metric_that_is_blind_is_at_chance() -> None:
    constant = calibrate([score(lambda question: torch.ones(len(question.inputs)))], **SMALL)
    assert {cell.probability for cell in constant.cells} == {0.5}
    assert {cell.tied for cell in constant.cells} == {20}
    assert not constant.passes("own", "models")
    blind = calibrate([score(noise)], lengths=(5,), depths=(0,), sizes=(1, 4), n_pairs=2000)
    for cell in blind.cells:
        # Four standard errors of a fair coin thrown 2000 times.
        assert abs(cell.probability - 0.5) < 4 * 0.5 / math.sqrt(2000)


def test_numbers_that_differ_by_rounding_are_tied() -> None:
    def apart(gap: float) -> Score:
        return score(lambda question: 1e3 * (1 + gap * oracle(question).double()))

    kinds = {"contrasts": (1.0,), **SMALL}
    for gap, probability in ((1e-11, 0.5), (1e-7, 1.0)):
        found = calibrate([apart(gap)], **kinds)
        assert {cell.probability for cell in found.of(kind="models")} == {probability}


def test_undefined_values_are_counted_as_saying_nothing() -> None:
    def half(question: Question) -> Tensor:
        values = oracle(question).double()
        return values.masked_fill(question.instances % 20 < 10, torch.nan)

    found = calibrate([score(half)], **SMALL)
    for cell in found.cells:
        assert (cell.undefined, cell.tied, cell.right) == (0.5, 10, 10)
        assert cell.probability == 0.75
    assert found.passes("own", "models")
    never = calibrate(
        [score(lambda question: torch.full((len(question.inputs),), torch.nan))], **SMALL
    )
    assert {(cell.undefined, cell.probability) for cell in never.cells} == {(1.0, 0.5)}
    assert never.verdict("own", "models").startswith("undefined at length 5")
    assert "100.0%" in never.table()


def test_a_metric_that_does_not_apply_says_why_and_leaves_the_others_alone() -> None:
    def broken(question: Question) -> Tensor:
        raise AdapterError("model must have\ntwo heads; got one. Give it another.")

    found = calibrate([score(broken, name="broken"), score(oracle)], **SMALL)
    assert found.verdict("broken", "models") == (
        "fails: model must have two heads; got one. Give it another."
    )
    assert math.isnan(found.probability("broken")) and found.probability("own") == 1
    cells = json.loads(json.dumps(found.to_dict(), allow_nan=False))["cells"]
    assert {cell["probability"] for cell in cells if cell["metric"] == "broken"} == {None}
    assert "two heads" in found.table() and "two heads" in found.markdown()
    whole = calibrate([score(lambda question: oracle(question).mean()[None])], **SMALL)
    assert "compute must return one value a text" in whole.verdict("own", "models")


def test_cells_are_what_a_loop_over_pairs_counts() -> None:
    options = {"contrasts": (0.4,), "n_pairs": 12, "seed": 3}
    found = calibrate(["gradient_correlation"], lengths=(6,), depths=(1,), sizes=(2, 3), **options)
    made = make_setting(6, 1, most=3, **options)
    for size in (2, 3):
        gains: dict[str, list[float]] = {"models": [], "explanations": []}
        for pair in range(12):
            rows = [pair + 12 * number for number in range(size)]
            texts = made.ids[rows]
            used, less = (
                float(gradient_correlation(made.models[unused], texts).statistic.mean())
                for unused in (0.0, 0.4)
            )
            gains["models"].append(used - less)
            importance = gradient_correlation(made.models[0.0], texts).importance.numpy()
            true, wrong = (
                sum(
                    stats.kendalltau(*each).statistic
                    for each in zip(made.explanations[share][rows].numpy(), importance, strict=True)
                )
                for share in (0.0, 0.4)
            )
            gains["explanations"].append((true - wrong) / size)
        for kind, each in gains.items():
            (cell,) = found.of("gradient_correlation", kind, size=size)
            # Taus of six words are often equal; a mean of them is, to rounding.
            assert cell.right == sum(gain > 1e-9 for gain in each)
            assert cell.tied == sum(abs(gain) <= 1e-9 for gain in each)


def test_a_setting_does_not_depend_on_what_else_is_asked() -> None:
    options = {"n_pairs": 10, "seed": 1}
    names = ["permutation_test", "gradient_correlation"]
    alone = calibrate(names, lengths=(5,), depths=(1,), sizes=(2,), contrasts=(0.3,), **options)
    more = calibrate(
        names[::-1], lengths=(5, 7), depths=(0, 1), sizes=(1, 2, 4), contrasts=(0.3, 0.9), **options
    )
    for cell in alone.cells:
        setting = {"length": 5, "depth": 1, "size": 2, "contrast": 0.3}
        assert more.of(cell.metric, cell.kind, **setting) == [cell]
    other = calibrate(names, lengths=(5,), depths=(1,), sizes=(2,), contrasts=(0.3,), n_pairs=10)
    assert other.cells != alone.cells


PUBLISHED = (
    "gradient_correlation", "loo_correlation", "permutation_test", "adversarial_attention"
)  # fmt: skip


def test_both_sides_of_a_pair_are_averaged_over_the_same_texts() -> None:
    """The better side has no value where it would be low; where both have one, it is lower."""

    def partly(question: Question) -> Tensor:
        first = question.instances < 20
        if question.model.unused:
            return torch.where(first, 0.0, 2.0)
        return torch.where(first, torch.nan, 1.0)

    found = calibrate([score(partly)], lengths=(5,), depths=(0,), sizes=(2,), n_pairs=20)
    assert {cell.right for cell in found.of(kind="models")} == {0}
    assert {cell.undefined for cell in found.of(kind="models")} == {0.25}


def test_what_the_published_tests_tell() -> None:
    options = {"lengths": (6, 20), "depths": (0, 1), "sizes": (8,), "n_pairs": 40}
    found = calibrate(PUBLISHED, **options)
    assert found.passes("permutation_test", "models")
    assert not found.of("permutation_test", "explanations")
    for name in ("gradient_correlation", "loo_correlation"):
        assert found.passes(name, "models") and found.passes(name, "explanations")
    # The effect of a weight set to 0 grows with the weight, used or not.
    zeroed = calibrate(["loo_correlation"], removal="mask_attention", **options)
    assert zeroed.passes("loo_correlation", "explanations")
    assert zeroed.probability("loo_correlation", "models", contrast=1.0) == 0
    assert (found.removal, zeroed.to_dict()["removal"]) == ("delete", "mask_attention")
    # Far adversaries exist for attention that is used, too: close pairs are told apart less.
    name = "adversarial_attention"
    assert found.probability(name, contrast=1.0) > 0.95 > found.probability(name, contrast=0.3)
    assert set(found.seconds) == set(found.titles) and min(found.seconds.values()) > 0


@pytest.mark.parametrize("count, right", [(1, 0), (1, 1), (40, 20), (100, 61), (100, 100)])
def test_the_interval_is_that_of_scipy(count: int, right: int) -> None:
    expected = stats.binomtest(right, count).proportion_ci(method="wilson")
    assert wilson(right / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


def cell(**changes: object) -> Cell:
    values = {
        "metric": "own", "kind": "models", "contrast": 0.5, "length": 4, "depth": 0, "size": 2,
        "n_pairs": 10, "right": 10, "tied": 0, "undefined": 0.0, "probability": 1.0, "low": 0.7,
        "high": 1.0,
    }  # fmt: skip
    return Cell(**(values | changes))


def test_verdicts_look_at_the_largest_size_and_name_the_worst() -> None:
    bad = {"probability": 0.55, "low": 0.4, "high": 0.7}
    worse = {"probability": 0.5, "low": 0.3, "high": 0.7}

    def verdict(*cells: Cell) -> str:
        return Calibration(cells, {"own": "own"}, 0, {"own": 1.0}).verdict("own", "models")

    assert verdict(cell(), cell(size=1, **bad)) == "passes"
    assert verdict(cell(size=1), cell(**bad)) == "fails at length 4, depth 0, contrast 0.5 (0.55)"
    assert verdict(cell(**bad), cell(depth=2, **worse)) == (
        "fails at length 4, depth 2, contrast 0.5 (0.50) and 1 more setting"
    )
    assert verdict(cell(**bad), cell(depth=2, **worse), cell(depth=3, **bad)).endswith(
        "(0.50) and 2 more settings"
    )
    assert verdict(cell(undefined=0.6)).startswith("undefined at length 4")
    assert verdict() == "not asked"


def test_tables_and_image(tmp_path: Path) -> None:
    found = calibrate(["gradient_correlation", "permutation_test"], **SMALL)
    assert str(found) == found.table()
    lines = found.table().splitlines()
    assert max(map(len, lines)) <= 100
    line = next(each for each in lines if each.startswith("permutation_test"))
    assert float(line.split()[1]) == pytest.approx(found.probability("permutation_test"), abs=0.006)
    rows = [row for row in found.markdown().splitlines() if row.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    plain = found.to_dict()
    assert len(plain["cells"]) == len(found.cells) == 24
    assert [row["metric"] for row in plain["verdicts"]] == ["gradient_correlation"] * 2 + [
        "permutation_test"
    ]
    for name in ("one.png", "one.svg"):
        first = found.draw(tmp_path / name).read_bytes()
        assert first == found.draw(tmp_path / f"again-{name}").read_bytes()


def test_bad_input() -> None:
    for options, said in (
        ({"metrics": ["tau"]}, "metrics must be among gradient_correlation, .*; got 'tau'"),
        ({"metrics": []}, "metrics must hold a metric; got none"),
        ({"lengths": (1,)}, "lengths must be at least 2; got 1"),
        ({"depths": ()}, "depths must hold a number; got none"),
        ({"sizes": (0,)}, "sizes must be at least 1; got 0"),
        ({"contrasts": (0.0, 1.0)}, "contrasts must lie above 0 and at most at 1"),
        ({"n_pairs": 0}, "n_pairs must be at least 1; got 0"),
        ({"seed": -1}, "seed must be at least 0; got -1"),
        ({"lengths": (6, 10**8)}, "lengths must be at most 1024; got 100000000"),
    ):
        with pytest.raises(ValueError, match=said):
            calibrate(**options)
    wrong: tuple[dict[str, Any], ...] = ({"metrics": [3]}, {"metrics": 3})
    for options in wrong:
        with pytest.raises(TypeError, match="metrics must be names or Score objects; got int"):
            calibrate(**options)
    for options in ({"lengths": 6}, {"sizes": "12"}, {"contrasts": 0.3}, {"contrasts": "a"}):
        with pytest.raises(TypeError, match=f"{next(iter(options))} must be a sequence of numbers"):
            calibrate(**options)
    with pytest.raises(TypeError, match="contrasts must be numbers; got"):
        calibrate(contrasts=("a",))  # type: ignore[arg-type]
    plausible = Score("iou", "overlap", True, "plausibility", compute=oracle)
    with pytest.raises(ValueError, match="metrics must measure faithfulness; got 'iou'"):
        calibrate([plausible])
