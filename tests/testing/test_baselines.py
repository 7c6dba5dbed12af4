"""A model is held against stored values: what is compared, what is refused, what is written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from given_values import given, texts
from scipy import stats

from faithattn import planted
from faithattn.testing.baseline import Baseline, rounded, versions
from faithattn.testing.checking import check_baseline, compared

SPREAD = (0.5 + 0.3 * stats.norm.ppf((np.arange(40) + 0.5) / 40)).tolist()
NAN = math.nan


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "model.json"


def check(path: Path, values: Any, *, up: bool = True, sizes: Any = None, **asked: Any) -> Any:
    model, batches = texts(*(sizes or [len(values)]))
    score = given(values, larger_is_faithful=up)
    return compared(model, batches, path, metrics=[score], remedy="THE COMMAND", **asked)


def test_files_keep_values_and_are_read_by_people(path: Path) -> None:
    values = np.array([1 / 3, NAN, -1e-12, 0.0, 7.0, *np.linspace(0, 1, 7)])
    stored = Baseline(
        {"digest": "d"}, {"seed": 0}, versions(), {"tau": {"mean": 0.5}}, {"tau": values}
    )
    stored.write(path)
    found = Baseline.read(path)
    assert np.array_equal(found.values["tau"], rounded(values), equal_nan=True)
    np.testing.assert_allclose(found.values["tau"], values, rtol=1e-8)
    assert (found.data, found.settings, found.summary) == (
        {"digest": "d"},
        {"seed": 0},
        {"tau": {"mean": 0.5}},
    )
    lines = path.read_text(encoding="utf-8").splitlines()
    assert "      0.333333333, null, -1e-12, 0, 7, 0, 0.166666667, 0.333333333," in lines
    assert json.loads("\n".join(lines))["schema"] == 1


def test_the_same_model_is_unchanged(path: Path) -> None:
    case = planted.faithful(size=20)
    asked: dict[str, Any] = {"metrics": {"gradient_correlation": {}, "permutation_test": {}}}
    assert check_baseline(case.model, [case.inputs], path, update=True, **asked).passed
    first = path.read_bytes()
    found = check_baseline(case.model, [case.inputs], path, tolerance=0, **asked)
    assert found.outcome == "unchanged" and len(found.changes) == 2
    assert all(change.difference == 0 and change.n == 20 for change in found.changes)
    check_baseline(case.model, [case.inputs], path, update=True, **asked)
    assert path.read_bytes() == first


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("shift", [-0.05, 0.05])
def test_a_change_is_found_by_pairs_and_named_by_its_direction(
    path: Path, up: bool, shift: float
) -> None:
    """The spread of the values is six times the shift; only the pairs show it."""
    check(path, SPREAD, up=up, update=True)
    noise = 0.02 * np.cos(np.arange(40))
    found = check(path, (np.array(SPREAD) + shift + noise).tolist(), up=up)
    (change,) = found.changes
    better = (shift > 0) == up
    assert found.outcome == "changed" and change.outcome == ("better" if better else "worse")
    moved = shift + noise
    assert change.difference == pytest.approx(moved.mean(), abs=1e-8)
    error = stats.sem(moved) * stats.t.ppf(0.975, 39)
    assert change.low == pytest.approx(moved.mean() - error, abs=0.1 * error)
    assert change.high == pytest.approx(moved.mean() + error, abs=0.1 * error)
    assert change.effect == pytest.approx(moved.mean() / moved.std(ddof=1), rel=0.03)
    assert ("The model is better; update the baseline: THE COMMAND" in str(found)) is better
    assert "95 % interval" in str(found) and "n 40" in str(found)
    with pytest.raises(AssertionError, match=change.outcome):
        found.settle()


def test_changes_within_the_tolerance_or_the_noise_pass(path: Path) -> None:
    check(path, SPREAD, update=True)
    shifted = (np.array(SPREAD) + 0.05).tolist()
    assert check(path, shifted, tolerance=0.06).passed
    assert check(path, shifted, tolerance={"given": 0.06}).passed
    assert not check(path, shifted, tolerance=0.04).passed
    noisy = (np.array(SPREAD) + 0.2 * np.cos(np.arange(40) * 1.7) + 0.02).tolist()
    found = check(path, noisy)
    assert found.passed and found.changes[0].low < 0.01 < found.changes[0].difference + 0.02


def test_lost_values_are_no_agreement(path: Path) -> None:
    check(path, [0.5, 0.6, 0.7, NAN], update=True)
    some = check(path, [0.5, 0.6, NAN, 0.1])
    assert some.passed and (some.changes[0].lost, some.changes[0].gained) == (1, 1)
    most = check(path, [0.5, NAN, NAN, 0.1])
    assert most.changes[0].outcome == "undefined" and not most.passed
    assert "2 instances lost their value, 1 gained one" in str(most)
    assert not check(path, [NAN] * 4, max_undefined=1).passed
    check(path, [NAN, NAN], update=True)
    assert check(path, [NAN, NAN]).passed


def test_one_pair_cannot_tell(path: Path) -> None:
    check(path, [0.5], update=True)
    found = check(path, [0.5])
    assert found.changes[0].outcome == "cannot tell" and not found.passed


def test_a_missing_baseline_fails_at_once_and_writes_nothing(path: Path) -> None:
    found = compared(None, iter([1 / 1]), path, metrics=["loo_correlation"], remedy="THE COMMAND")
    assert not found.passed and found.outcome == "no baseline"
    assert str(found).endswith("update the baseline: THE COMMAND") and not path.exists()


def test_other_data_or_settings_are_named(path: Path) -> None:
    check(path, SPREAD, sizes=[20, 20], update=True)
    before = path.read_bytes()
    other = check(path, SPREAD, sizes=[40])
    assert other.outcome == "other data" and "data batches was 2 and is 1" in str(other)
    assert check(path, SPREAD, sizes=[20, 20], seed=1).reasons == ("seed was 0 and is 1",)
    model, batches = texts(40)
    asked = {"permutation_test": {"n_permutations": 5}}
    compared(model, batches, path, metrics=asked, update=True)
    found = compared(model, batches, path, metrics={"permutation_test": {"n_permutations": 6}})
    assert found.reasons == ("metrics.permutation_test.n_permutations was 5 and is 6",)
    assert found.outcome == "other settings" and path.read_bytes() != before


def test_one_changed_number_of_the_data_is_seen(path: Path) -> None:
    case = planted.faithful(size=3)
    asked: Any = {"metrics": ["gradient_correlation"]}
    compared(case.model, [case.inputs], path, update=True, **asked)
    flat = [each for each in _tensors(case.inputs) if each.is_floating_point()]
    flat[0].reshape(-1)[0] += 1e-9
    assert compared(case.model, [case.inputs], path, **asked).outcome == "other data"


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [tensor for part in parts for tensor in _tensors(part)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<<<<<<< HEAD", "Expecting value"),
        ("[]", "list indices"),
        ("{}", "no 'schema'"),
        ('{"schema": 2}', "schema 2"),
        ('{"schema": 1, "values": {"tau": ["a"]}}', "could not convert"),
    ],
)
def test_other_files_are_no_baselines(path: Path, text: str, reason: str) -> None:
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"baseline of schema 1; got a file with {reason}"):
        check(path, [0.5, 0.6])


def test_a_write_that_fails_leaves_what_was_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(path, [0.5, 0.6], update=True)
    before = path.read_bytes()

    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target != path:
            return replace(self, target)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        check(path, [0.7, 0.8], update=True)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(path: Path) -> None:
    path.parent.write_text("a file")
    with pytest.raises(FileExistsError, match=r"path must be one where a file can .*Choose ano"):
        check(path, [0.5, 0.6], update=True)


@pytest.mark.parametrize(
    ("tolerance", "message"),
    [
        (-1, "tolerance must be a number of 0 or more; got -1"),
        (NAN, "tolerance must be a number of 0 or more; got nan"),
        ({"tau": 0.1}, "tolerance must be for metrics that are checked; got 'tau'"),
    ],
)
def test_bad_tolerances(path: Path, tolerance: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(path, [0.5, 0.6], tolerance=tolerance)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (3, "metrics must be names, Score objects or a mapping"),
        ([], "metrics must hold at least one"),
        (["loo_correlation", "loo_correlation"], "metrics must be named once each"),
    ],
)
def test_bad_metrics(path: Path, metrics: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        compared(None, [], path, metrics=metrics)
