from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_models import (
    VOCABULARY,
    alone,
    make_answerer,
    make_text,
    passage,
    questions,
    texts,
    with_passage,
)
from torch import Tensor

from faithattn.adapters.protocol import (
    AttentionModel,
    SupportsRemoval,
    SupportsReplay,
    SupportsSelection,
)
from faithattn.paper.models import QuestionAnswerer, TextClassifier
from faithattn.paper.models.attention import LogOddsAttention
from faithattn.paper.training import build

Case = tuple[Any, Callable[..., Any]]
LENGTHS = [4, 1, 7]


def alternatives(mask: Tensor, k: int) -> Tensor:
    """Random attention, ``(K, B, L)``."""
    generator = torch.Generator().manual_seed(k)
    scores = torch.randn(k, *mask.shape, generator=generator, dtype=torch.float64)
    return scores.masked_fill(~mask, -torch.inf).softmax(-1)


def test_models_satisfy_every_protocol(case: Case) -> None:
    model, _ = case
    for protocol in (AttentionModel, SupportsReplay, SupportsRemoval, SupportsSelection):
        assert isinstance(model, protocol)


def test_padded_batch_gives_what_each_instance_gives_alone(case: Case) -> None:
    model, make_inputs = case
    inputs = make_inputs(LENGTHS, width=9)
    run = model.run(inputs)
    for row in range(len(LENGTHS)):
        single = model.run(alone(inputs, row))
        length = single.mask.shape[1]
        weights = run.attention["attention"][row]
        torch.testing.assert_close(run.logits[row : row + 1], single.logits, atol=1e-12, rtol=0)
        torch.testing.assert_close(weights[:length], single.attention["attention"][0])
        assert (weights[length:] == 0).all()
        assert run.mask[row, :length].equal(single.mask[0])
        assert not run.mask[row, length:].any()


def test_attention_is_a_distribution_over_the_words(case: Case) -> None:
    model, make_inputs = case
    inputs = make_inputs(LENGTHS)
    run = model.run(inputs)
    ids, weights = passage(inputs), run.attention["attention"]
    assert run.mask.equal((ids != 0) & (ids != 2) & (ids != 3))
    assert (weights[run.mask] > 0).all()
    assert (weights[~run.mask] == 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(3, dtype=torch.float64))


def test_forward_gives_the_logits_of_run(case: Case) -> None:
    model, make_inputs = case
    inputs = make_inputs(LENGTHS)
    assert model(inputs).equal(model.run(inputs).logits)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_replay_equals_whole_runs(case: Case, k: int) -> None:
    model, make_inputs = case
    inputs = make_inputs(LENGTHS)
    run = model.run(inputs)
    others = alternatives(run.mask, k)
    replayed = model.replay(run.state, {"attention": others})
    expected = [model.run(inputs, attention={"attention": a}).logits for a in others]
    torch.testing.assert_close(replayed, torch.stack(expected), atol=1e-12, rtol=0)
    assert len({tuple(logits.flatten().tolist()) for logits in replayed}) == k


def test_own_attention_and_own_features_change_nothing(case: Case) -> None:
    model, make_inputs = case
    inputs = make_inputs(LENGTHS)
    run = model.run(inputs)
    for again in (
        model.run(inputs, attention=run.attention),
        model.run(inputs, features=run.features),
        model.run(inputs, attention={}, features={}),
    ):
        torch.testing.assert_close(again.logits, run.logits, atol=1e-12, rtol=0)


def test_override_is_used_as_given(case: Case) -> None:
    model, make_inputs = case
    inputs = make_inputs(LENGTHS)
    weights = torch.full(passage(inputs).shape, 0.3, dtype=torch.float64)
    run = model.run(inputs, attention={"attention": weights})
    assert run.attention["attention"] is weights
    halved = model.run(inputs, attention={"attention": weights / 2})
    assert not halved.logits.equal(run.logits)


def test_features_replace_the_embeddings(case: Case) -> None:
    model, make_inputs = case
    inputs, other = make_inputs(LENGTHS), make_inputs(LENGTHS)
    ids = passage(other)
    ids[ids > 3] = 15 - ids[ids > 3]
    vectors = model.embedding(ids).detach()
    run = model.run(inputs, features={"embedding": vectors})
    # Attention that is fixed goes by the ids.
    fixed = run.attention if isinstance(model.attention, LogOddsAttention) else {}
    assert run.logits.equal(model.run(other, attention=fixed).logits)
    assert not run.logits.equal(model.run(inputs).logits)


def test_gradient_at_the_features_is_the_slope(case: Case) -> None:
    model, make_inputs = case
    inputs = make_inputs([2, 1])
    start = model.run(inputs).features["embedding"].detach()

    def logits(vectors: Tensor) -> Tensor:
        result: Tensor = model.run(inputs, features={"embedding": vectors}).logits[:, :1]
        return result

    assert torch.autograd.gradcheck(logits, start.clone().requires_grad_())


def test_detached_replay_leaves_the_attention_path_out(case: Case) -> None:
    model, make_inputs = case
    inputs = make_inputs(LENGTHS)
    run = model.run(inputs)
    vectors, weights = run.features["embedding"], run.attention["attention"]
    detached = model.replay(run.state, {"attention": weights.detach()[None]})[0, :, 0].sum()
    (through_states,) = torch.autograd.grad(detached, vectors, retain_graph=True)
    attached = torch.autograd.grad(run.logits[:, 0].sum(), vectors)[0]
    leaf = vectors.detach().requires_grad_()
    slow = model.run(
        inputs, features={"embedding": leaf}, attention={"attention": weights.detach()}
    ).logits
    (expected,) = torch.autograd.grad(slow[:, 0].sum(), leaf)
    torch.testing.assert_close(through_states, expected)
    learned = not isinstance(model.attention, LogOddsAttention)
    assert torch.allclose(attached, through_states) != learned


def test_replay_has_gradients_with_respect_to_attention(case: Case) -> None:
    model, make_inputs = case
    with torch.no_grad():
        run = model.run(make_inputs(LENGTHS))
    others = alternatives(run.mask, 2).requires_grad_()

    def logits(weights: Tensor) -> Tensor:
        result: Tensor = model.replay(run.state, {"attention": weights})[..., :1]
        return result

    assert torch.autograd.gradcheck(logits, others)


def test_run_obeys_the_grad_mode(case: Case) -> None:
    model, make_inputs = case
    inputs = make_inputs(LENGTHS)
    model.requires_grad_(False)
    assert not model(inputs).requires_grad
    run = model.run(inputs)
    assert run.features["embedding"].requires_grad
    assert run.logits.requires_grad
    plain = run.features["embedding"].detach()
    assert model.run(inputs, features={"embedding": plain}).features["embedding"].requires_grad
    assert not plain.requires_grad
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        run = model.run(inputs)
    assert not run.features["embedding"].requires_grad
    assert not run.logits.requires_grad


def test_mode_and_random_state_are_left_alone(case: Case) -> None:
    model, make_inputs = case
    model.train()
    model.encoder.eval()
    before = torch.random.get_rng_state()
    model.run(make_inputs(LENGTHS))
    with pytest.raises(TypeError):
        model.run("text")
    assert model.training
    assert model.attention.training
    assert not model.encoder.training
    assert torch.random.get_rng_state().equal(before)


def test_removal_is_the_really_shortened_instance(case: Case) -> None:
    model, make_inputs = case
    inputs = make_inputs(LENGTHS, width=8)
    mask = model.run(inputs).mask
    rows, positions = mask.nonzero(as_tuple=True)
    shorter = model.remove(model.select(inputs, rows), positions)
    assert passage(shorter).shape[1] == max(LENGTHS) + 1
    logits = model.run(shorter).logits
    for index, (row, position) in enumerate(zip(rows.tolist(), positions.tolist(), strict=True)):
        single = alone(inputs, row)
        ids = passage(single)
        cut = torch.cat([ids[:, :position], ids[:, position + 1 :]], dim=1)
        expected = model.run(with_passage(single, cut)).logits[0]
        torch.testing.assert_close(logits[index], expected, atol=1e-12, rtol=0)


def test_select_repeats_rows(case: Case) -> None:
    model, make_inputs = case
    inputs = make_inputs(LENGTHS)
    rows = torch.tensor([2, 0, 2])
    selected = model.run(model.select(inputs, rows)).logits
    torch.testing.assert_close(selected, model.run(inputs).logits[rows], atol=1e-12, rtol=0)


def test_inputs_are_not_changed(case: Case) -> None:
    model, make_inputs = case
    inputs = make_inputs(LENGTHS)
    ids, before = passage(inputs), passage(inputs).clone()
    model.run(inputs)
    model.remove(inputs, torch.tensor([1, 1, 1]))
    assert ids.equal(before)


def test_text_of_unknown_words_is_a_text() -> None:
    model = make_text()
    run = model.run(torch.tensor([[2, 1, 1, 3]]))
    assert run.mask.tolist() == [[False, True, True, False]]
    assert run.attention["attention"].sum().item() == pytest.approx(1)


@pytest.mark.parametrize("rows", [[[2, 3, 0]], [[0, 0, 0]], [[3, 0, 0], [2, 5, 3]]])
def test_text_without_words_gives_the_bias(case: Case, rows: list[list[int]]) -> None:
    model, make_inputs = case
    run = model.run(with_passage(make_inputs([1] * len(rows)), torch.tensor(rows)))
    assert not run.mask[0].any()
    assert (run.attention["attention"][0] == 0).all()
    assert run.logits.isfinite().all()
    if isinstance(model, TextClassifier):
        assert run.logits[0].equal(model.decoder.bias)
    (gradient,) = torch.autograd.grad(run.logits[:, 0].sum(), run.features["embedding"])
    assert gradient.isfinite().all()
    assert (gradient[0] == 0).all()


def test_question_without_words_is_answered() -> None:
    for encoder in ("bilstm", "cnn", "average"):
        model = make_answerer(encoder)
        inputs = questions([2])
        for question in ([[2, 3]], [[0, 0]]):
            run = model.run({**inputs, "question": torch.tensor(question)})
            assert run.logits.isfinite().all()


def test_question_matters() -> None:
    model, inputs = make_answerer(), questions([4])
    other = {**inputs, "question": torch.tensor([[2, 9, 9, 9, 3]])}
    first, second = model.run(inputs), model.run(other)
    assert not torch.allclose(first.attention["attention"], second.attention["attention"])
    assert not torch.allclose(first.logits, second.logits)


def test_candidates_alone_have_probability() -> None:
    for dtype in (torch.float32, torch.float64):
        model = make_answerer().to(dtype)
        inputs = questions([3, 5])
        run = model.run(inputs)
        probabilities = run.logits.softmax(-1)
        assert run.logits.isfinite().all()
        assert (run.logits[:, 1] == torch.finfo(dtype).min).all()
        assert (probabilities[~inputs["candidates"]] == 0).all()
        assert (probabilities[inputs["candidates"]] > 0).all()


def test_vectors_start_the_embedding_with_padding_zero() -> None:
    vectors = torch.arange(24.0).reshape(6, 4) + 1
    model = TextClassifier(6, embedding_size=4, hidden_size=2, vectors=vectors)
    assert model.embedding.weight[1:].equal(vectors[1:])
    assert (model.embedding.weight[0] == 0).all()
    assert vectors[0, 0] == 1
    for model_type in (TextClassifier(500), QuestionAnswerer(500, 3)):
        expected = 0.1 if isinstance(model_type, TextClassifier) else 1.0
        assert model_type.embedding.weight[1:].std().item() == pytest.approx(expected, rel=0.02)
        assert (model_type.embedding.weight[0] == 0).all()


def test_sizes_are_the_published_ones() -> None:
    for encoder in ("bilstm", "cnn", "average"):
        model = TextClassifier(9, encoder=encoder)
        assert (model.embedding.embedding_dim, model.encoder.size) == (300, 256)
        assert model.config == {
            "vocabulary_size": 9,
            "n_outputs": 1,
            "output": "sigmoid",
            "encoder": encoder,
            "attention": "additive",
            "embedding_size": 300,
            "hidden_size": 128,
        }
    filters = [conv.weight.shape for conv in TextClassifier(9, encoder="cnn").encoder.convolutions]
    assert [(shape[0], shape[2]) for shape in filters] == [(64, 1), (64, 3), (64, 5), (64, 7)]


def test_seed_decides_the_weights() -> None:
    before = torch.random.get_rng_state()
    first, second, other = (build(lambda: TextClassifier(9), seed=s) for s in (0, 0, 1))
    assert torch.random.get_rng_state().equal(before)
    for name, value in first.state_dict().items():
        assert value.equal(second.state_dict()[name])
    assert not first.decoder.weight.equal(other.decoder.weight)


IDS = texts([2, 3])


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([[2, 3]], TypeError, "inputs must be a tensor of token ids; got list"),
        (IDS.float(), TypeError, "inputs must be int64; got torch.float32"),
        (IDS[0], ValueError, r"inputs must have shape \(batch, positions\).*got \(5,\)"),
        (IDS[:0], ValueError, r"neither empty; got \(0, 5\)"),
        (IDS[:, :0], ValueError, r"neither empty; got \(2, 0\)"),
        (IDS + VOCABULARY, ValueError, rf"inputs must lie in 0..{VOCABULARY - 1}; got"),
        (IDS - 1, ValueError, r"inputs must lie in .*got -1"),
        (torch.tensor([[0, 2, 5, 3]]), ValueError, "padded .* only at the end"),
        (torch.tensor([[2, 0, 5, 3]]), ValueError, "padded .* only at the end"),
    ],
)
def test_bad_ids_are_named(ids: Any, error: type[Exception], message: str) -> None:
    for call in (make_text().run, make_text()):
        with pytest.raises(error, match=message):
            call(ids)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"question": None}, ValueError, "keys passage, question, candidates; got no question"),
        ({"passage": IDS.int()}, TypeError, "passage must be int64"),
        ({"question": IDS[:1]}, ValueError, "question must have a row for each passage; got 1 for"),
        ({"candidates": torch.ones(2, 4)}, TypeError, "candidates must be boolean"),
        (
            {"candidates": torch.ones(2, 3, dtype=torch.bool)},
            ValueError,
            r"candidates must have shape \(2, 4\); got \(2, 3\)",
        ),
        (
            {"candidates": torch.tensor([[True] * 4, [False] * 4])},
            ValueError,
            "candidates must hold an answer for every passage; got none in row 1",
        ),
    ],
)
def test_bad_questions_are_named(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    inputs = {**questions([2, 3]), **change}
    inputs = {key: value for key, value in inputs.items() if value is not None}
    with pytest.raises(error, match=message):
        make_answerer().run(inputs)


def test_inputs_of_the_other_model_are_named() -> None:
    with pytest.raises(TypeError, match="inputs must be a mapping with passage"):
        make_answerer().run(IDS)
    with pytest.raises(TypeError, match="inputs must be a tensor of token ids; got dict"):
        make_text().run(questions([2]))


def test_bad_overrides_are_named(case: Case) -> None:
    model, make_inputs = case
    inputs = make_inputs([2, 3])
    run = model.run(inputs)
    row = torch.full((2, 5), 0.2, dtype=torch.float64)
    for call in (
        lambda given: model.run(inputs, attention=given),
        lambda given: model.replay(run.state, {k: v[None] for k, v in given.items()}),
    ):
        with pytest.raises(ValueError, match="key 'attention' only; got 'attn'"):
            call({"attn": row})
        with pytest.raises(ValueError, match=r"attention must have shape .*5\); got .*4\)"):
            call({"attention": row[:, :4]})
        with pytest.raises(TypeError, match="attention must be floating point"):
            call({"attention": row.long()})
    with pytest.raises(ValueError, match="attention must name the site 'attention'; got none"):
        model.replay(run.state, {})
    with pytest.raises(ValueError, match=r"features must have shape \(2, 5, 5\); got \(2, 5\)"):
        model.run(inputs, features={"embedding": row})
    with pytest.raises(ValueError, match="key 'embedding' only; got 'x'"):
        model.run(inputs, features={"x": row})


@pytest.mark.parametrize("positions", [[0, 1], [1, 4], [1, 9], [1, -1]])
def test_only_words_can_be_removed(case: Case, positions: list[int]) -> None:
    model, make_inputs = case
    with pytest.raises(ValueError, match="positions must name a word of each row; got"):
        model.remove(make_inputs([2, 3]), torch.tensor(positions))


def test_one_position_a_row_is_removed(case: Case) -> None:
    model, make_inputs = case
    with pytest.raises(ValueError, match=r"positions must be int64 with shape \(2,\); got"):
        model.remove(make_inputs([2, 3]), torch.tensor([1]))


def test_unknown_parts_are_named() -> None:
    with pytest.raises(ValueError, match="encoder must be one of bilstm, cnn, average; got 'gru'"):
        TextClassifier(9, encoder="gru")
    with pytest.raises(ValueError, match="attention must be one of additive, scaled_dot; got 'x'"):
        QuestionAnswerer(9, 2, attention="x")
    with pytest.raises(ValueError, match=r"vectors must have shape \(9, 4\); got \(9, 5\)"):
        TextClassifier(9, embedding_size=4, vectors=torch.zeros(9, 5))
