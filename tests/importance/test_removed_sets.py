"""Outputs without sets of positions, against loops that edit lists and run each text alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import planted
import pytest
import torch
from cases import Case, make_case, texts
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from faithattn import adapt, mask_patch, mask_token, memory_budget
from faithattn.adapters.reading import Reading, read
from faithattn.importance.leave_one_out import leave_one_out_importance
from faithattn.importance.removal.operators import REMOVALS
from faithattn.importance.removal.outputs import removed_outputs
from faithattn.interventions.features import DRAWS, donors

NAN = torch.nan


def some_sets(mask: Tensor, count: int = 40, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows, and marks of every size; among them nothing, everything, and what is no position."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(mask), (count,), generator=generator)
    share = torch.rand(count, 1, generator=generator)
    gone = torch.rand(count, mask.shape[1], generator=generator) < share
    gone[0], gone[1] = False, True
    return rows, gone


def deleted(ids: list[int], gone: list[bool]) -> list[int]:
    return [each for each, away in zip(ids, gone, strict=True) if not away and each != 0]


def masked(ids: list[int], gone: list[bool]) -> list[int]:
    return [5 if away else each for each, away in zip(ids, gone, strict=True) if each != 0]


@pytest.mark.parametrize("edit", [deleted, masked], ids=["delete", "mask_token(5)"])
@pytest.mark.parametrize("adapted", [False, True], ids=["own methods", "adapted"])
@pytest.mark.parametrize("name", ["text-bilstm-additive", "text-cnn-scaled_dot"])
def test_edited_lists_one_at_a_time(
    name: str, adapted: bool, edit: Callable[[list[int], list[bool]], list[int]]
) -> None:
    case = make_case(name)
    ids, plain = case.inputs, case.model
    model = adapt(plain, mask=lambda ids: (ids > 3) | (ids == 1)) if adapted else plain
    reading = read(model, ids)
    mask = reading.rows.mask
    rows, gone = some_sets(mask)
    removal: Any = "delete" if edit is deleted else mask_token(5)
    found = removed_outputs(reading, removal, rows, gone)
    for row, away, output in zip(rows, gone & mask[rows], found, strict=True):
        if edit is deleted and torch.equal(away, mask[row]):
            assert output.isnan().all()
            continue
        with torch.no_grad():
            wanted = plain(torch.tensor([edit(ids[row].tolist(), away.tolist())])).sigmoid()[0]
        torch.testing.assert_close(output, wanted, rtol=0, atol=1e-12)


def test_questions_lose_sets_of_their_passage() -> None:
    case = make_case("question-bilstm-scaled_dot")
    reading = read(case.model, case.inputs)
    mask = reading.rows.mask
    rows, gone = some_sets(mask)
    found = removed_outputs(reading, "delete", rows, gone)
    for row, away, output in zip(rows, gone & mask[rows], found, strict=True):
        if torch.equal(away, mask[row]):
            continue
        one = {key: each[row : row + 1] for key, each in case.inputs.items()}
        one["passage"] = torch.tensor([deleted(one["passage"][0].tolist(), away.tolist())])
        with torch.no_grad():
            wanted = case.model(one).softmax(-1)[0]
        torch.testing.assert_close(output, wanted, rtol=0, atol=1e-12)


def test_positions_deleted_one_by_one_from_the_last() -> None:
    case = make_case("bag")
    reading = read(case.model, case.inputs)
    rows, gone = some_sets(reading.rows.mask)
    found = removed_outputs(reading, "delete", rows, gone)
    for side in (0, 3):  # with padding on the left, positions start elsewhere
        inputs = case.pad(case.inputs, 3, True) if side else case.inputs
        wide = torch.nn.functional.pad(gone, (side, 0), value=True)
        again = removed_outputs(read(case.model, inputs), "delete", rows, wide)
        torch.testing.assert_close(again, found, rtol=0, atol=1e-12, equal_nan=True)
    for row, away, output in zip(rows, gone, found, strict=True):
        keep = case.inputs["mask"][row] & ~away
        if keep.any():
            x = case.inputs["x"][row][keep]
            weights = x[:, 0].softmax(0)
            logit = (weights[:, None] * x[:, 1:] * x[:, :1].tanh()).sum()
            assert float(output) == pytest.approx(float(logit.sigmoid()), abs=1e-12)
        else:
            assert output.isnan()


def oracle(reading: Reading, removal: str, row: int, away: Tensor) -> float:
    """The linear model with rows of attention given: sum_t a_t s_t, edited."""
    weights, scores, mask = (each[row] for each in reading.inputs)
    real = mask.nonzero()[:, 0].tolist()
    gone = [at for at in real if away[at]]
    values = {at: float(scores[at]) for at in real}
    share = {at: float(weights[at]) for at in real}
    if removal.startswith("mask_attention"):
        share |= dict.fromkeys(gone, 0.0)
    if removal == "mask_attention_renormalize" and gone:
        total = sum(share.values())
        share = {at: each / total if total else NAN for at, each in share.items()}
    if removal == "zero_embedding":
        values |= dict.fromkeys(gone, 0.0)
    if removal == "mean_embedding":
        mean = sum(values.values()) / len(real)
        values |= dict.fromkeys(gone, mean if len(real) > 1 else NAN)
    if removal == "resample":
        rows, columns = donors(reading.inputs[2])
        total = 0.0
        for draw in range(DRAWS):
            taken = {
                at: reading.inputs[1][rows[draw, row, at], columns[draw, row, at]] for at in gone
            }
            total += sum(share[at] * float((values | taken)[at]) for at in real) / DRAWS
        return total
    return sum(share[at] * values[at] for at in real)


def linear() -> Any:
    scores = torch.randn(5, 6, generator=torch.Generator().manual_seed(3)).double()
    mask = torch.arange(6) < torch.tensor([[6], [4], [1], [5], [6]])
    weights = planted.rows(5, 6) * mask
    return weights / weights.sum(-1, keepdim=True), scores, mask


@pytest.mark.parametrize("removal", sorted(set(REMOVALS) - {"delete", "mask_token"}))
def test_operators_on_a_linear_model(removal: str) -> None:
    reading = read(planted.Linear(), linear(), replay=8)
    mask = reading.rows.mask
    rows, gone = some_sets(mask)
    found = removed_outputs(reading, removal, rows, gone)
    assert found.shape == (40, 1)
    wanted = [
        oracle(reading, removal, int(row), away & mask[row])
        for row, away in zip(rows, gone, strict=True)
    ]
    assert found[:, 0].tolist() == pytest.approx(wanted, abs=1e-12, nan_ok=True)


def halved(inputs: Any, positions: Tensor) -> Any:
    """A user's own removal, which is not the same when it is repeated."""
    weights = inputs[0].clone()
    weights[torch.arange(len(weights)), positions] /= 2
    return weights, *inputs[1:]


def test_functions_of_one_position_are_applied_to_each() -> None:
    reading = read(planted.Linear(), linear())
    weights, scores, mask = reading.inputs
    rows, gone = some_sets(mask)
    found = removed_outputs(reading, halved, rows, gone)
    share = torch.where(gone & mask[rows], weights[rows] / 2, weights[rows])
    torch.testing.assert_close(found[:, 0], (share * scores[rows]).sum(-1))


def test_patches_hidden_together_are_those_hidden_one_by_one() -> None:
    images = torch.rand(3, 2, 4, 6)
    removal: Any = mask_patch(2, baseline=0.5, prefix=1)
    gone = torch.rand(3, 7, generator=torch.Generator().manual_seed(1)) < 0.5
    gone[:, 0] = False
    together = removal.hide(images, gone)
    for image, away, hidden in zip(images, gone, together, strict=True):
        slow = image[None]
        for at in away.nonzero()[:, 0]:
            slow = removal(slow, at[None])
        assert torch.equal(hidden[None], slow)


ALL: dict[str, Any] = {**{name: name for name in REMOVALS}, "mask_token": mask_token(5)}


@pytest.mark.parametrize("name", ALL)
def test_single_positions_are_leave_one_out(name: str) -> None:
    case = make_case("text-bilstm-additive")
    reading = read(case.model, case.inputs)
    rows, positions = reading.rows.mask.nonzero(as_tuple=True)
    gone = torch.arange(case.width) == positions[:, None]
    found = removed_outputs(reading, ALL[name], rows, gone)
    importance = leave_one_out_importance(case.model, case.inputs, removal=ALL[name])
    if name == "resample":  # the mean change is not the change of the mean
        assert (
            (found - reading.outputs[rows]).abs()[:, 0] <= importance[reading.rows.mask] + 1e-12
        ).all()
        return
    change = (found - reading.outputs[rows]).abs()[:, 0]
    torch.testing.assert_close(change, importance[reading.rows.mask], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_padding_batch_and_chunks_do_not_matter(name: str) -> None:
    case, removal = make_case("text-bilstm-additive"), ALL[name]
    reading = read(case.model, case.inputs, replay=8)
    rows, gone = some_sets(reading.rows.mask)
    found = removed_outputs(reading, removal, rows, gone)
    padded = read(case.model, case.pad(case.inputs, 3, False), replay=8)
    wide = torch.nn.functional.pad(gone, (0, 3), value=True)
    close: Any = {"rtol": 0, "atol": 1e-12, "equal_nan": True}
    torch.testing.assert_close(removed_outputs(padded, removal, rows, wide), found, **close)
    with memory_budget(1e-6):
        torch.testing.assert_close(removed_outputs(reading, removal, rows, gone), found, **close)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    turned = removed_outputs(reading, removal, rows[order], gone[order])
    torch.testing.assert_close(turned, found[order], **close)
    if name != "resample":  # which takes from the batch
        alone = read(case.model, case.take([2]), replay=8)
        some = rows == 2
        one = removed_outputs(alone, removal, rows[some] * 0, gone[some])
        torch.testing.assert_close(one, found[some], **close)


@settings(max_examples=30)
@given(st.sampled_from([name for name in ALL if name != "resample"]), st.integers(0, 99))
def test_nothing_gone_changes_nothing(name: str, seed: int) -> None:
    case = make_case("text-cnn-scaled_dot")
    reading = read(case.model, texts(seed=seed), replay=8)
    mask = reading.rows.mask
    rows = torch.randint(len(mask), (9,), generator=torch.Generator().manual_seed(seed))
    gone = ~mask[rows]  # all but positions
    assert torch.equal(removed_outputs(reading, ALL[name], rows, gone), reading.outputs[rows])


def test_no_sets_at_all(text_case: Case) -> None:
    reading = read(text_case.model, text_case.inputs, replay=8)
    none = torch.zeros(0, dtype=torch.long)
    for removal in ALL.values():
        gone = torch.zeros(0, text_case.width, dtype=torch.bool)
        assert removed_outputs(reading, removal, none, gone).shape == (0, 1)
