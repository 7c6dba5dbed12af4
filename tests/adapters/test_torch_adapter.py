"""adapt(): any module, read and changed without touching it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from adapter_models import IDS, SAME_LENGTH
from plain_modules import (
    SIZE,
    SPELLINGS,
    Plain,
    Returning,
    Submodule,
    by_hand,
    other_weights,
)
from torch import Tensor

from faithattn import AdapterError, adapt, check_adapter

REAL = IDS != 0


def weights_of(model: Plain, ids: Tensor = IDS) -> Tensor:
    """The weights, worked out again outside the adapter."""
    model.eval()
    with torch.no_grad():
        return model.weigh(model.scores(model.states(ids), ids))


@pytest.mark.parametrize(("model", "site", "name"), SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_is_seen_and_replaced(model: Plain, site: str | None, name: str) -> None:
    adapter = adapt(model, site=site)
    with torch.no_grad():
        run = adapter.run(IDS)
        expected = weights_of(model)
        assert list(run.attention) == [name]
        captured = run.attention[name]
        torch.testing.assert_close(captured.reshape(expected.shape), expected)
        torch.testing.assert_close(run.logits, model(IDS))
        assert torch.equal(run.mask, REAL)
        given = other_weights(captured)
        changed = adapter.run(IDS, attention={name: given})
        by_hand = model.decode(given.reshape(expected.shape), model.states(IDS))
        torch.testing.assert_close(changed.logits, by_hand)
        torch.testing.assert_close(changed.attention[name], given)
        alternatives = torch.stack([given, captured, other_weights(captured, 1)])
        replayed = adapter.replay(run.state, {name: alternatives})
        torch.testing.assert_close(replayed[0], by_hand)
        torch.testing.assert_close(replayed[1], run.logits)
        assert replayed.shape == (3, 3, 1)


@pytest.mark.parametrize(("model", "site", "name"), SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_keeps_the_contract(model: Plain, site: str | None, name: str) -> None:
    check_adapter(adapt(model, site=site), IDS)


@pytest.mark.parametrize(("model", "site", "name"), SPELLINGS.values(), ids=SPELLINGS)
def test_gradients_flow_through_attention_and_embeddings(
    model: Plain, site: str | None, name: str
) -> None:
    frozen = [weight.requires_grad_(False) for weight in model.parameters()]
    adapter = adapt(model, site=site)
    run = adapter.run(IDS)
    embedded = model.embed(IDS).detach().requires_grad_()
    states = model.hidden(embedded).tanh()
    expected = model.decode(model.weigh(model.scores(states, IDS)), states)
    whole = torch.autograd.grad(run.logits.sum(), run.features["embed"], retain_graph=True)
    torch.testing.assert_close(whole, torch.autograd.grad(expected.sum(), embedded))
    leaf = other_weights(run.attention[name]).requires_grad_()
    replayed = adapter.replay(run.state, {name: leaf[None]})
    by_hand = model.decode(leaf.reshape(3, 4), model.hidden(embedded).tanh())
    torch.testing.assert_close(
        torch.autograd.grad(replayed.sum(), [leaf, run.features["embed"]]),
        torch.autograd.grad(by_hand.sum(), [leaf, embedded]),
    )
    for weight in frozen:
        weight.requires_grad_(True)


def test_the_reported_attention_is_part_of_the_graph() -> None:
    run = adapt(Plain()).run(IDS)
    (gradient,) = torch.autograd.grad(
        run.logits.sum(), run.attention["attention"], retain_graph=True
    )
    states = Plain().states(IDS)
    torch.testing.assert_close(gradient, (states @ Plain().out.weight[0]).detach())
    (through,) = torch.autograd.grad(run.attention["attention"][0, 0], run.features["embed"])
    assert through[0].any() and not through[1:].any()


def test_features_are_taken_back() -> None:
    model = Plain()
    adapter = adapt(model)
    given = torch.randn(3, 4, SIZE, generator=torch.Generator().manual_seed(0)).double()
    states = model.hidden(given).tanh()
    expected = model.decode(model.weigh(model.scores(states, IDS)), states)
    run = adapter.run(IDS, features={"embed": given})
    torch.testing.assert_close(run.logits, expected)
    assert run.features["embed"].requires_grad and not given.requires_grad
    leaf = given.clone().requires_grad_()
    assert adapter.run(IDS, features={"embed": leaf}).features["embed"] is leaf
    with torch.no_grad():
        assert not adapter.run(IDS).features["embed"].requires_grad
        assert not adapter.run(IDS).logits.requires_grad


# --- inputs, masks, outputs ---------------------------------------------------------------


class Several(Plain):
    """Takes more than ids."""

    def forward(self, ids: Tensor, scale: Tensor | None = None, **rest: Any) -> Tensor:
        logits: Tensor = super().forward(ids)
        return logits if scale is None else logits * scale[:, None]


SCALE = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


@pytest.mark.parametrize(
    "inputs",
    [IDS, (IDS,), (IDS, SCALE), {"ids": IDS}, {"ids": IDS, "scale": SCALE, "name": "x"}],
    ids=["tensor", "tuple", "longer tuple", "mapping", "longer mapping"],
)
def test_inputs_as_a_model_takes_them(inputs: Any) -> None:
    model = Several()
    adapter = adapt(model)
    run = adapter.run(inputs)
    scaled = len(inputs) > 1 and not isinstance(inputs, Tensor)
    expected = model(IDS, SCALE if scaled else None)
    torch.testing.assert_close(run.logits, expected)
    assert torch.equal(run.mask, REAL)
    rows = torch.tensor([2, 0, 0])
    torch.testing.assert_close(adapter.run(adapter.select(inputs, rows)).logits, expected[rows])
    shorter = adapter.remove(inputs, torch.tensor([1, 0, 2]))
    ids = torch.tensor([[5, 7, 8], [9, 0, 0], [10, 11, 0]])
    torch.testing.assert_close(adapter.run(shorter).logits, model(ids, SCALE if scaled else None))
    check_adapter(adapter, inputs)


def test_the_model_can_be_called_another_way() -> None:
    class Encoder(Plain):
        def forward(self, ids: Tensor) -> Tensor:
            raise NotImplementedError

        def classify(self, batch: Any) -> Tensor:
            return Plain.forward(self, batch.ids)

    model = Encoder()
    adapter = adapt(model, call=lambda module, batch: module.classify(batch), mask=lambda _: REAL)
    batch = SimpleNamespace(ids=IDS)
    torch.testing.assert_close(adapter.run(batch).logits, model.classify(batch))
    with pytest.raises(TypeError, match="Give the adapter a select"):
        adapter.select(batch, torch.tensor([0]))


MASKS: dict[str, tuple[Any, Any, int | None]] = {
    "padding_idx": (None, IDS, 0),
    "id": (0, IDS, None),
    "id before padding_idx": (0, IDS, 11),
    "function": (lambda ids: ids != 0, IDS, None),
    "tensor": (REAL, IDS, None),
}


@pytest.mark.parametrize(("mask", "inputs", "padding"), MASKS.values(), ids=MASKS)
def test_masks(mask: Any, inputs: Any, padding: int | None) -> None:
    assert torch.equal(adapt(Plain(padding=padding), mask=mask).run(inputs).mask, REAL)


def test_the_attention_mask_of_a_tokenizer() -> None:
    class Tokenized(Plain):
        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return super().forward(input_ids * attention_mask)

    inputs = {"input_ids": IDS + (IDS == 0), "attention_mask": REAL.long()}
    adapter = adapt(Tokenized(padding=None))
    assert torch.equal(adapter.run(inputs).mask, REAL)
    check_adapter(adapter, inputs)
    shorter = adapter.remove(inputs, torch.tensor([0, 0, 0]))
    assert shorter["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]


def test_no_padding_needs_no_mask() -> None:
    adapter = adapt(Plain(padding=None))
    assert adapter.run(SAME_LENGTH).mask.all()
    check_adapter(adapter, SAME_LENGTH)
    # Nothing says what padding is, but the masked scores do.
    assert torch.equal(adapter.run(IDS).mask, REAL)
    by_hand_only = adapt(Submodule(by_hand, padding=None), site="normalise")
    with pytest.raises(AdapterError, match="mask must be given where the model pads"):
        by_hand_only.run(IDS)


def test_special_tokens_survive_a_removal() -> None:
    ids = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 9, 3, 0]])
    adapter = adapt(Plain(), mask=lambda ids: ids > 3)
    shorter = adapter.remove(ids, torch.tensor([1, 2]))
    assert shorter.tolist() == [[2, 6, 7, 3], [2, 8, 3, 0]]
    alone = adapter.remove(ids[1:], torch.tensor([2]))
    assert alone.tolist() == [[2, 8, 3]]
    unknown = adapt(Plain(padding=None), mask=lambda ids: ids > 3)
    assert unknown.remove(ids[1:], torch.tensor([2])).tolist() == [[2, 8, 3, 0]]


@pytest.mark.parametrize(
    ("wrap", "logits"),
    [
        (lambda z: z, None),
        (lambda z: (z, "more"), None),
        (lambda z: [z], None),
        (lambda z: SimpleNamespace(logits=z, loss=None), None),
        (lambda z: {"scores": z}, lambda returned: returned["scores"]),
    ],
    ids=["tensor", "tuple", "list", ".logits", "function"],
)
def test_logits_of_what_is_returned(wrap: Any, logits: Any) -> None:
    run = adapt(Returning(wrap), logits=logits).run(IDS)
    torch.testing.assert_close(run.logits, Plain()(IDS))


@pytest.mark.parametrize("output", ["auto", "sigmoid", "softmax", "identity"])
def test_the_output_is_kept(output: str) -> None:
    assert adapt(Plain(), output=output).output == output
