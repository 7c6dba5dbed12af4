"""What changed inputs share with a reading makes no difference but in time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import Case, make_case
from torch import Tensor, nn

from faithattn import leave_one_out_importance, memory_budget, removal_curves
from faithattn.adapters.beside import beside
from faithattn.adapters.reading import read
from faithattn.errors import AdapterError
from faithattn.importance.leave_one_out import Removal, leave_one_out_of
from faithattn.importance.removal.outputs import removed_outputs
from faithattn.importance.removal.sharing import shares
from faithattn.interventions.tokens import mask_token
from faithattn.paper.models import TextClassifier
from faithattn.paper.training import build

ENCODERS = ("bilstm", "cnn", "average")
SHARING = [
    f"{kind}-{encoder}-{attention}"
    for kind in ("text", "question")
    for encoder in ENCODERS
    for attention in ("additive", "scaled_dot")
]
REMOVALS: list[Removal] = [
    "delete",
    "zero_embedding",
    "mean_embedding",
    "resample",
    mask_token(4, key=None),
    mask_token(1),
]


def watched(model: Any) -> Any:
    """A model somebody watches shares nothing."""
    model.encoder.register_forward_hook(lambda *_: None)
    return model


def removal_for(case: Case, removal: Removal) -> Removal:
    named = isinstance(case.inputs, dict) and not isinstance(removal, str)
    return mask_token(4, key="passage") if named else removal


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize("removal", REMOVALS, ids=str)
def test_leave_one_out_is_the_same(name: str, removal: Removal) -> None:
    case = make_case(name)
    removal = removal_for(case, removal)
    found = leave_one_out_importance(case.model, case.inputs, removal=removal)
    expected = leave_one_out_importance(watched(case.model), case.inputs, removal=removal)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize("removal", REMOVALS, ids=str)
def test_sets_of_every_size(name: str, removal: Removal) -> None:
    case = make_case(name)
    removal = removal_for(case, removal)
    mask = read(case.model, case.inputs).rows.mask
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(len(mask), (40,), generator=generator)
    gone = torch.rand(40, mask.shape[1], generator=generator) < 0.4
    together, whole = [], []
    for model, outputs in ((case.model, together), (watched(make_case(name).model), whole)):
        with torch.no_grad():
            reading = read(model, case.inputs, changes=True)
            assert shares(reading) == (outputs is together)
        outputs.append(reading.outputs)
        outputs.append(removed_outputs(reading, removal, rows, gone))
    for one, other in zip(together, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12, equal_nan=True)


def published(size: int = 64, encoder: str = "bilstm") -> tuple[TextClassifier, Tensor]:
    sizes = {"embedding_size": size, "hidden_size": size}
    model = build(lambda: TextClassifier(50, encoder=encoder, **sizes), seed=0).eval()
    ids = torch.randint(4, 50, (6, 25), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[:, 20:] = 2, ids[:, 20:] * (torch.arange(6) % 2)[:, None]
    return model, ids


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("removal", REMOVALS, ids=str)
def test_single_precision(encoder: str, removal: Removal) -> None:
    model, ids = published(encoder=encoder)
    found = leave_one_out_importance(model, ids, removal=removal)
    expected = leave_one_out_importance(watched(model), ids, removal=removal)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def nothing(inputs: Tensor, _: Tensor) -> Tensor:
    return inputs


@pytest.mark.parametrize("encoder", ENCODERS)
def test_what_does_not_change_is_what_the_run_gave(encoder: str) -> None:
    model, ids = published(encoder=encoder)
    with torch.no_grad():
        readings = [read(model, ids, changes=changes) for changes in (True, False)]
        logits = [reading.run.logits for reading in readings]
    # A BiLSTM's run beside rounds otherwise than the model's own.
    assert torch.equal(*logits) == (encoder != "bilstm")
    for reading in readings:
        assert (leave_one_out_of(reading, nothing, None) == 0).all()
        found = leave_one_out_of(reading, mask_token(7), None)
        assert (ids == 7).any() and (found[ids == 7] == 0).all()
        assert (found[(ids > 3) & (ids != 7)] > 0).all()
        rows = torch.arange(len(ids)).flip(0)
        with torch.no_grad():
            again = beside(model, ids, reading.run).with_inputs(ids[rows], rows)
        assert torch.equal(again, reading.run.logits[rows])


def test_a_repeated_word_is_deleted_to_the_same_text() -> None:
    model, _ = published()
    ids = torch.tensor([[2, 9, 8, 8, 8, 5, 5, 3], [2, 8, 8, 9, 3, 0, 0, 0]])
    found = leave_one_out_importance(model, ids)
    assert found[0, 2:5].unique().numel() == found[0, 5:7].unique().numel() == 1
    assert found[1, 1] == found[1, 2]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_text_without_a_first_token_loses_its_first_word(encoder: str) -> None:
    model, _ = published(encoder=encoder)
    ids = torch.tensor([[8, 8, 9], [8, 9, 9], [9, 0, 0]])
    found = leave_one_out_importance(model, ids)
    expected = leave_one_out_importance(watched(model), ids)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("batch", [1, 3])
def test_neither_batch_nor_budget_matters(encoder: str, batch: int) -> None:
    model, ids = published(8, encoder)
    model.double()
    whole = leave_one_out_importance(model, ids)
    parts = [leave_one_out_importance(model, each) for each in ids.split(batch)]
    with memory_budget(0.05):
        small = leave_one_out_importance(model, ids)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(small, whole, rtol=0, atol=1e-12)


def test_whole_forward_passes_are_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = published(8)
    calls = 0
    forward = nn.LSTM.forward

    def counted(self: nn.LSTM, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        return forward(self, *args)

    monkeypatch.setattr(nn.LSTM, "forward", counted)
    for removal in REMOVALS:
        leave_one_out_importance(model, ids, removal=removal)
        removal_curves(model, ids, removal=removal, steps=4)
    assert calls == 0
    leave_one_out_importance(model, ids, removal="mask_attention")
    assert calls == 2


@pytest.mark.parametrize("encoder", ["cnn", "average"])
def test_texts_are_encoded_once(monkeypatch: pytest.MonkeyPatch, encoder: str) -> None:
    model, ids = published(8, encoder)
    calls: list[int] = []
    forward = type(model.encoder).forward

    def counted(self: nn.Module, embedded: Tensor, real: Tensor) -> Any:
        calls.append(len(embedded))
        return forward(self, embedded, real)

    monkeypatch.setattr(type(model.encoder), "forward", counted)
    for removal in REMOVALS:
        leave_one_out_importance(model, ids, removal=removal)
        removal_curves(model, ids, removal=removal, steps=4)
    assert calls == [len(ids)] * 2 * len(REMOVALS)


def another_word(inputs: Tensor, positions: Tensor) -> Tensor:
    """Puts words of their own in many places, most of them new to the batch."""
    changed, rows = inputs.clone(), torch.arange(len(inputs))
    changed[rows, positions] = 4 + (11 * rows + 3 * positions) % 46
    return changed


@pytest.mark.parametrize("encoder", ENCODERS)
def test_words_that_were_not_read(encoder: str) -> None:
    model, ids = published(8, encoder)
    ids = ids[:2]
    found = leave_one_out_importance(model, ids, removal=another_word)
    expected = leave_one_out_importance(watched(model), ids, removal=another_word)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def beside_itself(inputs: Tensor, positions: Tensor) -> Tensor:
    """Changes another position than the one that is named."""
    return mask_token(4)(inputs, (positions % 3) + 1)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_function_that_changes_something_else_is_found_out(encoder: str) -> None:
    model, ids = published(8, encoder)
    with pytest.raises(AdapterError, match="must change the position that is named"):
        leave_one_out_importance(model, ids, removal=beside_itself)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_another_question_is_no_changed_passage(encoder: str) -> None:
    case = make_case(f"question-{encoder}-additive")

    def other_question(inputs: Any, positions: Tensor) -> Any:
        changed = mask_token(4, key="passage")(inputs, positions)
        return {**changed, "question": changed["question"].flip(0)}

    found = leave_one_out_importance(case.model, case.inputs, removal=other_question)
    expected = leave_one_out_importance(watched(case.model), case.inputs, removal=other_question)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


class Warmer(TextClassifier):
    """Does something of its own in every run."""

    def run(self, inputs: Tensor, **overrides: Any) -> Any:
        from dataclasses import replace

        run = super().run(inputs, **overrides)
        return replace(run, logits=run.logits / 2)


class Around:
    """Hands on what it does not know."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def run(self, inputs: Tensor, **overrides: Any) -> Any:
        return self.inner.run(inputs, **overrides)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_only_a_class_of_its_own_says_that_it_shares(encoder: str) -> None:
    model, ids = published(8, encoder)
    with torch.no_grad():
        assert beside(model, ids) is not None
        assert beside(Around(model), ids) is None
        assert beside(Warmer(50, encoder=encoder, embedding_size=8, hidden_size=8), ids) is None
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert beside(model, ids) is None
    assert beside(model, ids) is None  # gradients go through a run


def test_a_run_beside_is_a_run() -> None:
    for name in SHARING:
        case = make_case(name)
        with torch.no_grad():
            own = beside(case.model, case.inputs)
            assert own is not None
            run = case.model.run(case.inputs)
        for one, other in (
            (own.run.logits, run.logits),
            (own.run.attention["attention"], run.attention["attention"]),
            (own.run.features["embedding"], run.features["embedding"]),
        ):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
        again = case.model.replay(own.run.state, {"attention": run.attention["attention"][None]})
        torch.testing.assert_close(again[0], run.logits, rtol=0, atol=1e-12)


def test_nothing_is_left_on_the_model() -> None:
    model, ids = published(8)
    model.train()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    leave_one_out_importance(model, ids)
    assert model.training and all(part.training for part in model.modules())
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())
