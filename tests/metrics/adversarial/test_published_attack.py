"""The adversarial search against a slow loop, exact values, and what a result promises."""

from __future__ import annotations

import math
from typing import Any

import oracles
import planted
import pytest
import torch
from cases import Case, make_case, texts
from oracles import PaperModel
from torch import Tensor

from faithattn import (
    AdapterError,
    AdversarialResult,
    AttentionView,
    Run,
    adversarial_attention,
)
from faithattn.adapters.affine import find_affine
from faithattn.adapters.reading import read
from faithattn.measures.draws import normal_noise

EPSILON, STEPS, COUNT = 0.02, 60, 3
QUICK = {"n_steps": 40, "n_adversaries": 3, "seed": 0}


def is_affine(model: Any, inputs: Any) -> bool:
    with torch.no_grad():
        return find_affine(read(model, inputs)) is not None


def sorted_as_results(found: Tensor, single: PaperModel) -> Tensor:
    """Feasible adversaries first, then by JSD."""
    own, before = single.attention().detach(), single.outputs().detach()

    def rank(row: Tensor) -> tuple[bool, float]:
        change = oracles.distance(outputs_of(single, row).detach(), before, single.output)
        return float(change) <= EPSILON, oracles.jsd(row.tolist(), own[single.words].tolist())

    return torch.stack(sorted(found, key=rank, reverse=True))


def outputs_of(single: PaperModel, row: Tensor) -> Tensor:
    weights = row.new_zeros(len(single.ids)).masked_scatter(single.words, row)
    return single.outputs(weights)


@pytest.mark.parametrize(
    ("name", "affine"),
    [
        ("text-bilstm-additive", True),
        ("text-average-scaled_dot", True),
        ("question-average-additive", False),
        ("question-cnn-scaled_dot", False),
    ],
)
def test_follows_the_slow_loop(name: str, affine: bool) -> None:
    case = make_case(name)
    model, inputs = case.model, case.take([1, 2])
    assert is_affine(model, inputs) is affine
    result = adversarial_attention(
        model,
        inputs,
        epsilon=EPSILON,
        n_adversaries=COUNT,
        n_steps=STEPS,
        method="published",
        seed=4,
    )
    mask = model.run(inputs).mask
    noise = normal_noise(4, torch.arange(2), COUNT, mask)
    for row in range(2):
        single = PaperModel(model, inputs, row)
        with torch.no_grad():
            own = single.attention()[single.words]
        expected = oracles.search(
            own,
            noise[:, row, mask[row]],
            Decoder(single),
            model.output,
            epsilon=EPSILON,
            n_steps=STEPS,
        )
        expected = sorted_as_results(expected, single)
        torch.testing.assert_close(result.attention[row][:, mask[row]], expected, atol=1e-6, rtol=0)
        assert (result.attention[row][:, ~mask[row]] == 0).all()


class Decoder:
    """Outputs under a row over the words; the states are computed once."""

    def __init__(self, single: PaperModel) -> None:
        self.single = single
        with torch.no_grad():
            self.states = oracles.encode(single.model.encoder, single.vectors())[single.words]
            self.query = single.query()

    def __call__(self, row: Tensor) -> Tensor:
        model, context = self.single.model, row @ self.states
        if self.query is None:
            return oracles.squash(model.decoder.weight @ context + model.decoder.bias, "sigmoid")
        logits = model.decoder(
            (model.passage_projection(context) + model.question_projection(self.query)).tanh()
        )
        chosen = oracles.squash(logits[self.single.candidates], "softmax")
        return torch.zeros_like(logits).masked_scatter(self.single.candidates, chosen)


def test_the_loops_decoder_is_the_model(paper_case: Case) -> None:
    single = PaperModel(paper_case.model, paper_case.inputs, 0)
    own = single.attention()[single.words]
    torch.testing.assert_close(Decoder(single)(own), single.outputs())


def test_answering_questions_is_never_taken_for_affine() -> None:
    for encoder in ("bilstm", "cnn", "average"):
        case = make_case(f"question-{encoder}-additive")
        assert not is_affine(case.model, case.inputs)
        assert not is_affine(case.model.float(), case.inputs)


def test_several_outputs_can_be_affine() -> None:
    class Classes(planted.Linear):
        output = "softmax"

        def replay(self, state: Any, attention: Any) -> Any:
            logit = super().replay(state, attention)
            return torch.cat([logit, -2 * logit, 0 * logit + 1], -1)

    class Bent(Classes):
        def replay(self, state: Any, attention: Any) -> Any:
            return (2 * super().replay(state, attention)).tanh()

    inputs = planted.whole(planted.rows(3, 5), 4 * planted.rows(3, 5, seed=1) - 1)
    for model, affine in ((Classes(), True), (Bent(), False)):
        assert is_affine(model, inputs) is affine
        result = adversarial_attention(
            model,
            inputs,
            epsilon=EPSILON,
            n_adversaries=COUNT,
            n_steps=STEPS,
            method="published",
            seed=0,
        )
        noise = normal_noise(0, torch.arange(3), COUNT, inputs[2])
        for row in range(3):

            def decode(weights: Tensor, row: int = row, model: Any = model) -> Tensor:
                state = inputs[1][row : row + 1, :, None]
                logits = model.replay(state, {"row": weights[None, None]})[0, 0]
                return oracles.squash(logits, "softmax")

            expected = oracles.search(
                inputs[0][row], noise[:, row], decode, "softmax", epsilon=EPSILON, n_steps=STEPS
            )
            actual = result.attention[row]
            gaps = (actual[:, None] - expected[None]).abs().amax(-1)
            assert float(gaps.amin(1).max()) < 1e-6 and float(gaps.amin(0).max()) < 1e-6


def test_every_number_is_the_models_own(case: Case) -> None:
    result = adversarial_attention(case.model, case.inputs, epsilon=0.1, **QUICK)
    run = case.model.run(case.inputs)
    (site,) = run.attention
    before = oracles_outputs(run.logits, result.output)
    for k in range(3):
        own = case.model.run(case.inputs, attention={site: result.attention[:, k]})
        after = oracles_outputs(own.logits, result.output)
        torch.testing.assert_close(result.probabilities[:, k], after)
        for row in range(case.size):
            change = oracles.distance(after[row], before[row], result.output)
            assert float(result.tvd[row, k]) == pytest.approx(float(change), abs=1e-12)
            divergence = oracles.jsd(
                result.attention[row, k].tolist(), run.attention[site][row].tolist()
            )
            assert float(result.jsd[row, k]) == pytest.approx(divergence, abs=1e-9)
    assert_consistent(result)


def oracles_outputs(logits: Tensor, output: str) -> Tensor:
    return torch.stack([oracles.squash(row.detach(), output) for row in logits])


def assert_consistent(result: AdversarialResult) -> None:
    assert torch.equal(result.feasible, result.tvd <= result.epsilon)
    order = torch.where(result.feasible, result.jsd, result.jsd - 1)
    assert torch.equal(order, order.sort(-1, descending=True).values)
    best = torch.where(result.feasible, result.jsd, 0).amax(-1)
    assert torch.equal(result.max_jsd, best)
    assert (result.max_jsd <= result.upper_bound + 1e-7).all()
    assert (result.upper_bound <= math.log(2) + 1e-7).all()
    assert torch.equal(result.certified, result.max_jsd >= result.upper_bound - 1e-4)
    sums = result.attention.sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    reached = [
        oracles.jsd(strong.tolist(), own.tolist())
        for strong, own in zip(result.strongest, result.original, strict=True)
    ]
    torch.testing.assert_close(
        torch.tensor(reached, dtype=result.max_jsd.dtype), result.max_jsd, atol=1e-6, rtol=0
    )


def test_upper_bound_is_the_farthest_corner() -> None:
    attention = planted.rows(5, 6)
    result = adversarial_attention(
        planted.Sigmoid(),
        planted.whole(attention, attention),
        n_steps=1,
        method="published",
        epsilon=1,
        seed=0,
    )
    for row, bound in zip(attention.tolist(), result.upper_bound.tolist(), strict=True):
        corners = [oracles.jsd([float(t == s) for s in range(6)], row) for t in range(6)]
        assert bound == pytest.approx(max(corners), abs=1e-12)


@pytest.mark.parametrize(("epsilon", "exact"), [(0.05, 0.0024), (0.01, 8.4e-5)])
def test_two_positions(epsilon: float, exact: float) -> None:
    oracle = oracles.two_position_adversary(0.7, (2.0, -2.0), epsilon)
    assert oracle == pytest.approx(exact, rel=0.03)
    model, inputs = planted.two_positions()
    found = [
        adversarial_attention(
            model, inputs, epsilon=epsilon, n_adversaries=8, method="published", seed=seed
        )
        for seed in range(3)
    ]
    best = max(float(result.max_jsd) for result in found)
    assert best <= oracle + 1e-9
    assert best >= 0.5 * oracle
    assert all(float(r.upper_bound) == pytest.approx(oracle, abs=1e-6) for r in found)


def test_three_positions() -> None:
    result = adversarial_attention(
        *planted.three_positions(), n_adversaries=8, method="published", seed=0
    )
    assert math.log(2) - 0.05 < float(result.max_jsd) <= math.log(2) + 1e-9
    assert float(result.upper_bound) == pytest.approx(math.log(2))
    best = result.strongest[0]
    assert float(best[0] - best[2]) == pytest.approx(0, abs=0.05)


def test_nothing_feasible_is_the_original_and_is_counted() -> None:
    inputs = planted.whole(
        torch.tensor([[0.5, 0.5], [0.5, 0.5]]).double(), torch.tensor([[8.0, -8], [1, 1]]).double()
    )
    result = adversarial_attention(
        planted.Sigmoid(),
        inputs,
        epsilon=1e-9,
        n_steps=1,
        n_adversaries=2,
        method="published",
        seed=0,
    )
    assert result.feasible.any(-1).tolist() == [False, True]
    assert float(result.max_jsd[0]) == 0 and float(result.max_jsd[1]) > 0
    assert torch.equal(result.strongest[0], inputs[0][0])
    assert result.summary().notes["instances without a feasible adversary"] == 1
    assert result.summary().overall.undefined == 0


def test_one_word_and_no_word(text_case: Case) -> None:
    ids = texts((5, 1, 0))
    result = adversarial_attention(text_case.model, ids, **QUICK)
    assert float(result.max_jsd[1]) == 0 and bool(result.certified[1])
    assert (result.tvd[1] == 0).all() and result.feasible[1].all()
    for value in (result.max_jsd[2], result.upper_bound[2], *result.jsd[2]):
        assert math.isnan(float(value))
    assert not bool(result.certified[2])
    assert result.attention.isfinite().all() and result.strongest.isfinite().all()
    summary = result.summary()
    assert (summary.overall.n, summary.overall.undefined) == (3, 1)


@pytest.mark.parametrize("name", ["text-bilstm-additive", "question-cnn-additive"])
def test_the_encoder_runs_once(name: str) -> None:
    case = make_case(name)
    calls: list[int] = []
    case.model.encoder.register_forward_hook(lambda *_: calls.append(1))
    adversarial_attention(case.model, case.inputs, **QUICK)
    assert len(calls) == 1


def test_more_steps_find_more(text_case: Case) -> None:
    few, many = (
        adversarial_attention(
            text_case.model, text_case.inputs, n_steps=steps, method="published", seed=0
        )
        for steps in (1, 400)
    )
    assert int(many.feasible.sum()) > int(few.feasible.sum())
    assert float(many.max_jsd.mean()) > float(few.max_jsd.mean())


class Deaf(torch.nn.Module):
    """A model whose output does not depend on its attention, but on its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))

    def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Any:
        weights = (attention or {"row": inputs})["row"]
        mask = torch.ones(weights.shape, dtype=torch.bool)
        return Run(self.replay(0, {"row": weights[None]})[0], {"row": weights}, mask, state=0)

    def replay(self, state: Any, attention: Any) -> Tensor:
        return self.weight.expand(*attention["row"].shape[:2], 1)


def test_a_model_that_ignores_its_attention_has_the_largest_divergence() -> None:
    attention = planted.rows(3, 4)
    result = adversarial_attention(Deaf(), attention, seed=0, n_steps=300)
    assert (result.tvd == 0).all() and result.feasible.all()
    assert (result.max_jsd > 0.8 * result.upper_bound).all()


def test_rows_of_several_heads_are_free_and_average() -> None:
    model = planted.Heads()
    view = AttentionView("heads", heads=(1, 0), query=1)
    result = adversarial_attention(
        model, torch.zeros(3), epsilon=0.5, n_adversaries=2, n_steps=20, seed=0, view=view
    )
    changed = torch.zeros(2, 2, 5, dtype=torch.bool)
    changed[:, 1, 1:4] = True  # the first key is outside the mask, the last outside the support
    assert result.attention.shape == (3, 2, 2, 2, 5)
    assert torch.equal(result.original, model.weights)
    for row in range(3):
        own = model.weights[row, :, 1, 1:4]
        mass = own.sum(-1, keepdim=True)
        torch.testing.assert_close(result.mass[row], mass.mean())
        for k in range(2):
            override = result.attention[row, k]
            assert torch.equal(override[~changed], model.weights[row][~changed])
            moved = override[:, 1, 1:4]
            torch.testing.assert_close(moved.sum(-1, keepdim=True), mass)
            pairs = zip((moved / mass).tolist(), (own / mass).tolist(), strict=True)
            divergence = sum(oracles.jsd(*pair) for pair in pairs) / 2
            assert float(result.jsd[row, k]) == pytest.approx(divergence, abs=1e-9)
            logits = model.run(None, attention={"heads": result.attention[:, k]}).logits[row]
            change = (logits - model.run(None).logits[row]).abs().mean()
            assert float(result.tvd[row, k]) == pytest.approx(float(change))
    assert not torch.allclose(result.attention[:, 0, 0, 1, 1:4], result.attention[:, 0, 1, 1, 1:4])


def test_a_replay_without_gradient_is_an_error() -> None:
    class Detached:
        """Not affine, so that the search needs the gradient that replay withholds."""

        def run(self, inputs: Tensor, *, attention: Any = None, features: Any = None) -> Run:
            weights = inputs.softmax(-1) if attention is None else attention["a"]
            logits = self.replay(inputs, {"a": weights[None]})[0]
            return Run(
                logits, {"a": weights}, torch.ones_like(inputs, dtype=torch.bool), state=inputs
            )

        def replay(self, state: Tensor, attention: Any) -> Tensor:
            return (attention["a"].detach() * state).sum(-1, keepdim=True).mul(9).sin()

    with pytest.raises(AdapterError, match="replay must be differentiable in the attention"):
        adversarial_attention(Detached(), torch.randn(3, 6), **QUICK)


def test_a_model_that_ignores_attention_has_the_farthest_adversaries() -> None:
    class Constant(planted.Linear):
        def replay(self, state: Any, attention: Any) -> Tensor:
            return super().replay(state, attention) * 0

    model, inputs = Constant(), planted.faithful()[1]
    result = adversarial_attention(model, inputs, n_steps=200, seed=0)
    assert is_affine(model, inputs) and result.feasible.all() and not result.tvd.any()
