"""What was read of a batch that is larger than the budget has room for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import make_answerer, make_labels, make_pairs, make_text, pairs, questions, texts
from torch import Tensor

from faithattn import leave_one_out_importance, memory_budget
from faithattn.adapters.beside import Beside, beside
from faithattn.paper.models import changed as module
from faithattn.paper.models.changed import kept_at_once

ENCODERS = ("bilstm", "cnn", "average")
LENGTHS = [6, 9, 3, 9, 5]
WIDTH = max(LENGTHS) + 2
MODELS: dict[str, tuple[Callable[..., Any], Callable[..., Any], str]] = {
    "text": (make_text, texts, "additive"),
    "fixed": (make_text, texts, "log_odds"),
    "labels": (make_labels, texts, "additive"),
    "questions": (make_answerer, questions, "additive"),
    "pairs": (make_pairs, pairs, "scaled_dot"),
}


def budget(model: Any, texts_kept: int) -> float:
    """Megabytes that have room for what was made of so many of the texts."""
    return (texts_kept + 0.5) * 10 * model.encoder.size * WIDTH * 8 / 2**20


def made(kind: str, encoder: str) -> tuple[Any, Any]:
    make, make_inputs, attention = MODELS[kind]
    return make(encoder, attention), make_inputs(LENGTHS)


def shared(model: Any, inputs: Any) -> Beside:
    found = beside(model, inputs)
    assert found is not None
    return found


def test_room() -> None:
    model = make_text()
    for count in (1, 2, 7):
        with memory_budget(budget(model, count)):
            assert kept_at_once(model, WIDTH) == count
    with memory_budget(1e-6):
        assert kept_at_once(model, WIDTH) == 1


@pytest.mark.parametrize("kept", [1, 2])
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_what_is_read_in_parts_gives_the_same(kind: str, encoder: str, kept: int) -> None:
    model, inputs = made(kind, encoder)
    run = model.run(inputs)
    rows, positions = run.mask.nonzero(as_tuple=True)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    for some in (slice(None), order):
        at = rows[some]
        shorter = model.remove(model.select(inputs, at), positions[some])
        gone = torch.zeros(len(at), WIDTH, dtype=torch.bool)
        gone[torch.arange(len(at)), positions[some]] = True
        values = torch.linspace(-1, 1, 5 * len(at)).double().view(-1, 5)
        features = model.embedding(inputs if kind in ("text", "fixed", "labels") else _ids(inputs))
        other = features[at].clone()
        other[gone] = values
        with memory_budget(budget(model, kept)):
            own = shared(model, inputs)
            torch.testing.assert_close(own.run.logits, run.logits, rtol=0, atol=1e-12)
            found = own.with_inputs(shorter, at), own.with_features(at, gone, values)
            once = own.with_features(at, gone, values[:1])
        expected = model.run(shorter).logits
        torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-12)
        expected = model.run(model.select(inputs, at), features={"embedding": other}).logits
        torch.testing.assert_close(found[1], expected, rtol=0, atol=1e-12)
        other[gone] = values[0]
        expected = model.run(model.select(inputs, at), features={"embedding": other}).logits
        torch.testing.assert_close(once, expected, rtol=0, atol=1e-12)


def _ids(inputs: dict[str, Tensor]) -> Tensor:
    return inputs["passage" if "passage" in inputs else "premise"]


@pytest.mark.parametrize("encoder", ENCODERS)
@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, len(LENGTHS) - 1), min_size=2, max_size=12), st.integers(1, 3))
@torch.no_grad()
def test_rows_in_any_order_in_any_number_of_calls(encoder: str, rows: list[int], kept: int) -> None:
    model, inputs = made("labels", encoder)
    with memory_budget(budget(model, kept)):
        own = shared(model, inputs)
        for first in range(0, len(rows), 4):
            at = torch.tensor(rows[first : first + 4])
            shorter = model.remove(inputs[at], 1 + torch.arange(len(at)) % 3)
            found = own.with_inputs(shorter, at)
            if found is None:  # hardly any text twice
                assert len(at) < 2 * len(torch.unique(at))
                continue
            torch.testing.assert_close(found, model.run(shorter).logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("encoder", ENCODERS)
@torch.no_grad()
def test_the_same_text_gives_what_the_run_gave(encoder: str) -> None:
    model, inputs = made("text", encoder)
    rows = torch.tensor([4, 4, 0, 0, 2, 2])
    with memory_budget(budget(model, 2)):
        own = shared(model, inputs)
        assert torch.equal(own.with_inputs(inputs[rows], rows), own.run.logits[rows])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_leave_one_out_reads_each_text_once(monkeypatch: pytest.MonkeyPatch, encoder: str) -> None:
    model, inputs = made("text", encoder)
    whole = leave_one_out_importance(model, inputs)
    read: list[int] = []
    texts_of = module._Texts.__init__

    def counted(self: Any, model: Any, ids: Tensor, rows: Tensor, *others: Any) -> None:
        read.extend(rows.tolist())
        texts_of(self, model, ids, rows, *others)

    monkeypatch.setattr(module._Texts, "__init__", counted)
    monkeypatch.setattr("faithattn.importance.removal.outputs.rows_at_once", lambda *_, **__: 4)
    with memory_budget(budget(model, 2)):
        found = leave_one_out_importance(model, inputs)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-12)
    # A text whose words come in two calls, beside those of others, is read for both.
    assert set(read) == set(range(len(LENGTHS)))
    assert len(read) <= 2 * len(LENGTHS)


@pytest.mark.parametrize(("kind", "name"), [
    ("pairs", "hypothesis"), ("questions", "question"), ("questions", "candidates"),
])  # fmt: skip
@torch.no_grad()
def test_another_question_is_not_shared(kind: str, name: str) -> None:
    """What was read of a passage is of no use for another question, or other candidates."""
    model, inputs = made(kind, "bilstm")
    own = shared(model, inputs)
    rows = torch.tensor([0, 0, 1])
    same = model.select(inputs, rows)
    assert own.with_inputs(same, rows) is not None
    changed = same[name].clone()
    changed[1, 1] = True if changed.dtype == torch.bool else changed[1, 1] + 1
    assert not torch.equal(changed, same[name])
    assert own.with_inputs({**same, name: changed}, rows) is None


@torch.no_grad()
def test_what_is_hardly_shared_is_run() -> None:
    model, inputs = made("text", "cnn")
    with memory_budget(budget(model, 2)):
        own = shared(model, inputs)
        rows = torch.tensor([0, 1, 2])
        assert own.with_inputs(inputs[rows], rows) is None
        assert own.with_features(rows, inputs[rows] > 3, model.embedding(inputs[:1, :1])[0]) is None
        rows = torch.tensor([0, 1, 0, 1])
        assert own.with_inputs(inputs[rows], rows) is not None
        assert own.with_inputs(inputs[:1], rows[:1]) is not None  # those were read before
