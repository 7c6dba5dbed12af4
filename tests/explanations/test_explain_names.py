"""Controls, importances, names, and scores as metrics are given them."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cases import Case
from small_transformer import IDS, LAYERS, ByHand, adapted
from torch import Tensor, nn

from faithattn import (
    AdapterError,
    AttentionView,
    explain,
    gradient_importance,
    leave_one_out_importance,
)
from faithattn.adapters.reading import read
from faithattn.explanations import kinds
from faithattn.explanations.given import scores_of

VIEW = AttentionView.cls()
MASK = IDS > 1


def of(kind: str, **options: Any) -> Tensor:
    return explain(adapted(), IDS, kind=kind, view=VIEW, **options)


def test_attention_is_the_chosen_row() -> None:
    torch.testing.assert_close(of("attention"), read(adapted(), IDS, VIEW).rows.explanation)


def test_uniform_and_positions() -> None:
    counts = MASK.sum(-1, keepdim=True)
    torch.testing.assert_close(of("uniform"), MASK / counts.double())
    for kind, order in (("position", range(5, 0, -1)), ("position_reversed", range(1, 6))):
        expected = torch.tensor([0, *order]).double() / 15
        torch.testing.assert_close(of(kind)[0], expected)
        assert of(kind)[1].argmax() == (1 if kind == "position" else 2)


def test_reversed_is_the_opposite_order() -> None:
    row, found = of("attention"), of("reversed")
    for b in range(len(IDS)):
        one, other = row[b, MASK[b]], found[b, MASK[b]]
        above = (one[:, None] > one).double() - (one[:, None] < one).double()
        below = (other[:, None] < other).double() - (other[:, None] > other).double()
        assert torch.equal(above, below)
        assert other.sum() == pytest.approx(1) and (other > 0).all()
        assert (found[b, ~MASK[b]] == 0).all()


class Tied(nn.Module):
    """A word has one weight wherever it is."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(12, 4, padding_idx=0), nn.Linear(4, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        row = x[..., 0].masked_fill(ids == 0, -1e9).softmax(-1)
        return self.out((row[..., None] * x).sum(1))


def test_reversed_keeps_ties() -> None:
    found = explain(Tied(), torch.tensor([[5, 6, 5, 7, 0]]), kind="reversed")[0]
    assert found[0] == found[2] and len(found.unique()) == 4


@pytest.mark.parametrize("kind", ["attention", "gradient_attention", "attention_gradient"])
def test_scores_are_single_precision_at_least(kind: str) -> None:
    found = explain(Tied().bfloat16(), torch.tensor([[5, 6, 5, 7, 0]]), kind=kind)
    assert found.dtype == torch.float32


def test_frequency_counts_the_tokens_of_the_batch() -> None:
    counts = {token: int((token == IDS).sum()) for token in IDS[MASK].tolist()}
    expected = torch.tensor(
        [[1 / counts[token] if token > 1 else 0 for token in row] for row in IDS.tolist()]
    ).double()
    torch.testing.assert_close(of("frequency"), expected)
    by_hand = explain(ByHand(adapted()), IDS, kind="frequency", view=VIEW)
    torch.testing.assert_close(by_hand, expected)


def test_frequency_needs_ids() -> None:
    class Vectors(Tied):
        def forward(self, ids: Tensor) -> Tensor:
            return self.out((ids[..., 0].softmax(-1)[..., None] * ids).sum(1))

    with pytest.raises(AdapterError, match=r"one tensor of token ids for the positions \(2, 5\)"):
        explain(Vectors(), torch.rand(2, 5, 4), kind="frequency")


def test_random_is_a_function_of_seed_instance_and_position() -> None:
    found = of("random", seed=3, instances=torch.tensor([7, 8, 9]))
    assert ((found > 0) == MASK).all() and (found <= 1).all()
    swapped = explain(
        adapted(), IDS[[2, 0]], kind="random", view=VIEW, seed=3, instances=torch.tensor([9, 7])
    )
    assert torch.equal(swapped, found[[2, 0]])
    assert not torch.equal(found, of("random", seed=4, instances=torch.tensor([7, 8, 9])))
    many = explain(
        Tied(), torch.randint(1, 12, (400, 20), generator=torch.Generator().manual_seed(0)),
        kind="random",
    )  # fmt: skip
    assert many.mean() == pytest.approx(0.5, abs=5 * (1 / 12 / 8000) ** 0.5)
    assert many.var() == pytest.approx(1 / 12, abs=0.003)


def test_importances_have_names_too(text_case: Case) -> None:
    model, inputs = text_case.model, text_case.inputs
    target = torch.ones(text_case.size, dtype=torch.int64)
    for name, function in (
        ("gradient_importance", gradient_importance),
        ("leave_one_out", leave_one_out_importance),
        ("signed_leave_one_out", partial(leave_one_out_importance, signed=True)),
    ):
        for options in ({}, {"target": target}):
            expected = function(model, inputs, **options)
            found = explain(model, inputs, kind=name, **options)
            torch.testing.assert_close(found, expected.detach(), equal_nan=True)
    zeroed = explain(model, inputs, kind="leave_one_out", removal="zero_embedding")
    expected = leave_one_out_importance(model, inputs, removal="zero_embedding")
    torch.testing.assert_close(zeroed, expected, equal_nan=True)


def test_methods_of_captum_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def importance(model: Any, inputs: Any, **options: Any) -> Tensor:
        asked.append(options)
        return torch.ones(3, 6, requires_grad=True)

    modules = {
        "faithattn.importance.attribution.methods": SimpleNamespace(METHODS={"saliency": None}),
        "faithattn.importance.attribution.scores": SimpleNamespace(captum_importance=importance),
    }
    monkeypatch.setattr(kinds, "find_spec", lambda _name: True)
    monkeypatch.setattr(kinds, "import_module", modules.__getitem__)
    for name in ("saliency", "captum:saliency"):
        assert not of(name, target=1, seed=4).requires_grad
    assert [each["method"] for each in asked] == ["saliency", "saliency"]
    assert asked[0]["target"] == 1 and asked[0]["seed"] == 4
    assert asked[0]["view"].site == LAYERS[1]
    with pytest.raises(ValueError, match=r"attention, .*captum:saliency; got 'captum:other'"):
        of("captum:other")


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"kind must be one of attention, .*got 'atention'"):
        of("atention")
    with pytest.raises(TypeError, match="kind must be the name of an explanation; got Tensor"):
        explain(adapted(), IDS, kind=torch.ones(3, 6), view=VIEW)  # type: ignore[arg-type]


@pytest.mark.parametrize("graph", [False, True])
def test_scores_as_metrics_are_given_them(graph: bool) -> None:
    for kind in kinds.KINDS:
        with torch.set_grad_enabled(graph):
            reading = read(adapted(), IDS, VIEW)
        options = {"target": 2, "seed": 5, "instances": torch.tensor([3, 1, 2])}
        with torch.no_grad():  # as metrics ask for them
            found = scores_of(reading, kind, **options)
        assert not found.requires_grad
        torch.testing.assert_close(found, of(kind, **options), equal_nan=True)
    own = torch.rand(3, 6)
    assert torch.equal(scores_of(reading, own), own.masked_fill(~MASK, 0))
    with pytest.raises(ValueError, match=r"explanation must have one score a position"):
        scores_of(reading, own[:, :5])
    with pytest.raises(ValueError, match="explanation must be one of attention"):
        scores_of(reading, "nothing")
