"""The screen on models that hide a position, that do not, and on numbers by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import planted
import pytest
import torch
from cases import Case
from torch import Tensor, nn

from faithattn import (
    DeceptionResult,
    Run,
    deception_screen,
    leave_one_out_importance,
    memory_budget,
)
from faithattn.measures.outputs import output_distance, probabilities

NAMED, PADDING = 5, 0
# By id: what a word adds to the logit, and how much it asks for attention.
VALUES = torch.tensor([0.0, 0.1, -0.1, 0.05, -0.05, 4.0], dtype=torch.float64)


class Words:
    """One sigmoid over sum_t a_t (v_t + leak * the sum of all values)."""

    output = "sigmoid"

    def __init__(self, *, asked: float, leak: float) -> None:
        self.asked, self.leak = asked, leak

    def run(
        self,
        inputs: Mapping[str, Tensor],
        *,
        attention: Mapping[str, Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        ids = inputs["input_ids"]
        mask = ids != PADDING
        wanted = torch.where(ids == NAMED, self.asked, ids.double() / 10)
        own = wanted.masked_fill(~mask, -torch.inf).softmax(-1)
        weights = (attention or {"row": own})["row"]
        values = VALUES[ids] + self.leak * VALUES[ids].sum(-1, keepdim=True)
        return Run((weights * values).sum(-1, keepdim=True), {"row": weights}, mask)

    def remove(self, inputs: Mapping[str, Tensor], positions: Tensor) -> dict[str, Tensor]:
        ids = inputs["input_ids"]
        keep = torch.arange(ids.shape[1]) != positions[:, None]
        return {"input_ids": ids[keep].view(len(ids), -1)}


def texts(size: int = 40, length: int = 9) -> dict[str, Tensor]:
    """Texts of other words with one named word each, padded at the end."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, NAMED, (size, length), generator=generator)
    ids[torch.arange(size), torch.arange(size) % 4] = NAMED
    ids[::2, -2:] = PADDING
    return {"input_ids": ids}


def screen(model: Any, inputs: Any = None, **options: Any) -> DeceptionResult:
    return deception_screen(model, texts() if inputs is None else inputs, tokens=[NAMED], **options)


def test_a_hidden_word_is_found() -> None:
    result = screen(Words(asked=-8.0, leak=1.0))
    assert (result.flagged == 1).all()
    assert (result.share < 1e-3).all() and (result.effect > 0.2).all()
    torch.testing.assert_close(result.largest_single, result.effect)  # there is one
    assert result.summary().notes["Wilson low"] > 0.9
    least = float(result.effect.median())
    strict = screen(Words(asked=-8.0, leak=1.0), min_effect=least)
    assert torch.equal(strict.flagged == 1, result.effect >= least)


def test_an_honest_word_is_not() -> None:
    shown = screen(Words(asked=2.0, leak=1.0))
    assert (shown.flagged == 0).all() and (shown.effect > 0.2).all()
    assert (shown.share > shown.even_share).all()
    unused = screen(Words(asked=-8.0, leak=0.0))
    assert (unused.flagged == 0).all() and (unused.effect < 1e-3).all()


@pytest.mark.parametrize("length", [9, 13, 31])
def test_an_even_share_hides_nothing(length: int) -> None:
    result = screen(Words(asked=-8.0, leak=1.0), texts(length=length), explanation="uniform")
    torch.testing.assert_close(result.share, result.even_share)
    assert (result.flagged == 0).all() and (result.effect > result.rival_effect).any()


def test_without_other_positions_there_is_no_flag() -> None:
    every = {"input_ids": torch.full((1, 3), NAMED)}
    result = screen(Words(asked=0.0, leak=1.0), every, removal="mask_attention")
    assert result.effect > 0.1 and result.flagged.isnan().all()


def test_weights_alone_do_not_give_it_away() -> None:
    """A weight near zero can be taken away without a trace: the word must leave the encoder."""
    blind = screen(Words(asked=-8.0, leak=1.0), removal="mask_attention")
    assert (blind.flagged == 0).all() and (blind.effect < 1e-3).all()


def test_a_faithful_model_is_never_flagged() -> None:
    """Model A: weight and effect are one, whatever positions are named."""
    model, inputs = planted.faithful(size=200)
    generator = torch.Generator().manual_seed(1)
    chosen = torch.rand(200, 9, generator=generator).argsort(1) < 1
    options: dict[str, Any] = {"removal": "mask_attention", "min_effect": 0.0}
    result = deception_screen(model, inputs, positions=chosen, **options)
    assert (result.flagged == 0).all() and (result.share < result.even_share).any()
    torch.testing.assert_close(result.effect, result.share)


def test_the_fields_by_hand(case: Case) -> None:
    run = case.model.run(case.inputs)
    weights = next(iter(run.attention.values())).detach()
    named = torch.zeros_like(run.mask)
    for row, real in enumerate(run.mask):
        named[row, real.nonzero()[:2, 0]] = True
    result = deception_screen(case.model, case.inputs, positions=named)
    singles = leave_one_out_importance(case.model, case.inputs)
    kind = result.output
    before = probabilities(run.logits.detach(), kind)
    for row in range(case.size):
        real = run.mask[row].nonzero()[:, 0].tolist()
        total = float(weights[row][run.mask[row]].sum())
        own = [at for at in real if named[row, at]]
        others = sorted((at for at in real if at not in own), key=lambda at: -weights[row, at])
        rivals = others[: len(own)]
        for places, share, effect in (
            (own, result.share[row], result.effect[row]),
            (rivals, result.rival_share[row], result.rival_effect[row]),
        ):
            assert float(share) == pytest.approx(
                sum(float(weights[row, at]) for at in places) / total
            )
            if places and len(places) < len(real):
                inputs = case.take([row])
                for at in sorted(places, reverse=True):
                    inputs = case.model.remove(inputs, torch.tensor([at]))
                after = probabilities(case.model.run(inputs).logits.detach(), kind)
                wanted = output_distance(after, before[[row]], kind)
                assert float(effect) == pytest.approx(float(wanted), abs=1e-12)
        largest = max((float(singles[row, at]) for at in own), default=math.nan)
        assert float(result.largest_single[row]) == pytest.approx(largest)
        assert bool(result.flagged[row].isnan()) == (len(own) == len(real))


def test_padding_batches_and_memory_do_not_matter(case: Case) -> None:
    generator = torch.Generator().manual_seed(4)
    named = torch.rand(case.size, case.width, generator=generator) < 0.4
    expected = deception_screen(case.model, case.inputs, positions=named)
    assert expected.flagged.isfinite().any()
    found = []
    for side in case.sides:
        width = (3, 0) if side == "left" else (0, 3)
        wide = torch.nn.functional.pad(named, width, value=True)
        padded = case.pad(case.inputs, 3, side == "left")
        found.append(deception_screen(case.model, padded, positions=wide))
    parts = [
        deception_screen(case.model, case.take(part), positions=named[part])
        for part in ([0, 1], [2], [3, 4])
    ]
    found.append(DeceptionResult.concatenate(parts))
    with memory_budget(1e-3):
        found.append(deception_screen(case.model, case.inputs, positions=named))
    for result in found:
        for name, value in vars(expected).items():
            if isinstance(value, Tensor):
                close = {"atol": 1e-7, "rtol": 1e-7, "equal_nan": True}
                torch.testing.assert_close(getattr(result, name), value, **close)


def test_named_by_tokens_or_by_positions() -> None:
    model, inputs = Words(asked=-8.0, leak=1.0), texts()
    by_position = deception_screen(model, inputs, positions=inputs["input_ids"] == NAMED)
    assert torch.equal(screen(model).effect, by_position.effect)
    two = deception_screen(model, inputs, tokens=[NAMED, 4])
    wanted = torch.isin(inputs["input_ids"], torch.tensor([NAMED, 4])).sum(1)
    assert torch.equal(two.named, wanted)
    more = {**inputs, "token_type_ids": torch.full_like(inputs["input_ids"], NAMED)}
    assert torch.equal(screen(model, more).named, screen(model).named)


def test_nothing_named_and_nothing_else() -> None:
    model, inputs = (
        Words(asked=0.0, leak=0.0),
        {"input_ids": torch.tensor([[1, 2], [5, 5], [5, 0]])},
    )
    result = screen(model, inputs)
    assert result.flagged.isnan().all() and result.named.tolist() == [0, 2, 1]
    assert result.largest_single.isnan().tolist() == [True, False, True]
    summary = result.summary()
    assert summary.overall.undefined == 3 and math.isnan(summary.notes["effect of the named"])


BAD: dict[str, dict[str, Any]] = {
    "positions or tokens must be given; got neither": {},
    "positions or tokens must be given; got both": {"tokens": [5], "positions": torch.ones(1, 2)},
    "positions must be boolean": {"positions": torch.ones(40, 9)},
    "tokens must be a list of ids; got 5": {"tokens": 5},
    "tokens must be a list of ids; got []": {"tokens": []},
    "tokens must be a whole number; got 'he'": {"tokens": ["he"]},
    "min_effect must be 0 or more, and finite; got -1": {"tokens": [5], "min_effect": -1},
    "min_effect must be a number; got '.1'": {"tokens": [5], "min_effect": ".1"},
    "removal must be one of": {"tokens": [5], "removal": "hide"},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_arguments(message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        deception_screen(Words(asked=0.0, leak=0.0), texts(), **BAD[message])


class Masked(nn.Module):
    """A classifier that takes ids and flags, both whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed, self.out = nn.Embedding(6, 4), nn.Linear(4, 2)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embed(ids)
        row = x[..., 0].masked_fill(attention_mask == 0, -1e9).softmax(-1)
        return self.out((row[..., None] * x).sum(1))


@pytest.mark.parametrize("order", [("ids", "attention_mask"), ("attention_mask", "ids")])
def test_tokens_are_looked_up_in_what_is_embedded(order: tuple[str, str]) -> None:
    ids = texts(4)["input_ids"]
    both = {"ids": ids, "attention_mask": (ids != PADDING).long()}
    inputs = {name: both[name] for name in order}
    found = deception_screen(Masked(), inputs, tokens=[1, NAMED])
    named = (ids == 1) | (ids == NAMED)
    marked = deception_screen(Masked(), inputs, positions=named)
    assert torch.equal(found.named, named.sum(1))
    torch.testing.assert_close(found.effect, marked.effect)


def test_tokens_need_an_input_of_ids() -> None:
    model, inputs = planted.faithful()
    with pytest.raises(ValueError, match="got 0 such inputs"):
        deception_screen(model, inputs, tokens=[5], removal="mask_attention")
