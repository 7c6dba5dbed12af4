"""The chunk budget: scope, errors, and that it bounds what a test holds at once."""

from __future__ import annotations

import threading
from typing import Any

import planted
import pytest
import torch

from faithattn import adversarial_attention, memory_budget, permutation_test
from faithattn._memory import chunk_size
from tests.benchmarks.peak import peak_of

MEGABYTE = 2**20


def test_items_that_fit() -> None:
    with memory_budget(1):
        assert chunk_size(MEGABYTE // 4) == 1
        assert chunk_size(MEGABYTE // 8) == 2
        assert chunk_size(MEGABYTE // 8, bytes_per_element=8) == 1
        assert chunk_size(1, bytes_per_element=1) == MEGABYTE


def test_one_item_always_fits() -> None:
    with memory_budget(1e-9):
        assert chunk_size(10**9) == 1
        assert chunk_size(0) == 1


def test_no_limit() -> None:
    with memory_budget(float("inf")):
        assert chunk_size(10**6) > 10**9
        result = permutation_test(*planted.faithful(), n_permutations=5, seed=0)
    assert result.tvd.shape == (6, 5)


def test_the_default_returns_after_a_block_or_an_error() -> None:
    default = chunk_size(1000)
    with memory_budget(1):
        small = chunk_size(1000)
        with memory_budget(2):
            assert chunk_size(1000) == pytest.approx(2 * small, abs=1)
        assert chunk_size(1000) == small
    with pytest.raises(RuntimeError), memory_budget(1):
        raise RuntimeError
    assert chunk_size(1000) == default


def test_threads_have_budgets_of_their_own() -> None:
    seen: list[int] = []
    with memory_budget(1):
        thread = threading.Thread(target=lambda: seen.append(chunk_size(1000)))
        thread.start()
        thread.join()
        assert seen[0] > chunk_size(1000)


class Watched(planted.Sigmoid):
    """Remembers how many alternatives it was asked for at once."""

    def __init__(self) -> None:
        self.most = 0

    def replay(self, state: Any, attention: Any) -> torch.Tensor:
        self.most = max(self.most, attention["row"].numel())
        return super().replay(state, attention)


@pytest.mark.parametrize("test", [permutation_test, adversarial_attention])
def test_the_budget_bounds_how_much_is_replayed_at_once(test: Any) -> None:
    inputs = planted.whole(planted.rows(8, 500), planted.rows(8, 500, seed=1))
    options = (
        {"n_permutations": 200}
        if test is permutation_test
        else {"n_adversaries": 40, "n_steps": 1, "method": "published"}
    )
    most = {}
    for megabytes in (0.5, 256):
        model = Watched()
        with memory_budget(megabytes):
            test(model, inputs, seed=0, **options)
        most[megabytes] = model.most
    assert most[0.5] * 8 <= 0.5 * MEGABYTE
    assert most[256] == (200 if test is permutation_test else 40) * 8 * 500


@pytest.mark.parametrize("method", ["exact", "search", "published"])
def test_the_budget_bounds_how_many_adversaries_are_looked_at_at_once(method: str) -> None:
    inputs = planted.whole(planted.rows(8, 300), planted.rows(8, 300, seed=1))
    options = {"method": method, "n_adversaries": 40, "n_steps": 5, "seed": 0}
    whole = adversarial_attention(planted.Sigmoid(), inputs, **options)
    model = Watched()
    with memory_budget(0.5):
        cut = adversarial_attention(model, inputs, **options)
    assert model.most * 8 <= 0.5 * MEGABYTE
    assert cut.attention.shape == (8, 40, 300)
    torch.testing.assert_close(cut.max_jsd, whole.max_jsd, atol=1e-9, rtol=0)


@pytest.mark.parametrize("method", ["exact", "search"])
def test_many_adversaries_take_little_beyond_themselves(method: str) -> None:
    """Equal scores: every position by itself is an adversary, and none needs a second look."""
    size, length, count = (16, 1000, 200) if method == "exact" else (4, 500, 100)
    alike = torch.full((size, length), 0.3, dtype=torch.float64)
    inputs = planted.whole(planted.rows(size, length), alike)
    options = {"method": method, "n_steps": 5, "seed": 0}
    adversarial_attention(planted.Sigmoid(), inputs, n_adversaries=2, **options)
    kept = []

    def attack() -> None:
        with memory_budget(4):
            kept.append(
                adversarial_attention(planted.Sigmoid(), inputs, n_adversaries=count, **options)
            )

    peak = peak_of(attack)
    if peak is None:
        pytest.skip("this system does not tell the peak")
    own = kept[0].attention.nbytes / MEGABYTE
    # A few copies of the result, and chunks.
    assert own > 1 and peak <= 6 * own + 40
