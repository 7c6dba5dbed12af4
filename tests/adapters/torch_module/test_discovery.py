"""Which softmaxes are attention: routers, outputs, gates, heads and sinks are told apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from odd_modules import CLOSE, FULL, IDS, REAL, SIZE, Called, Words
from torch import Tensor, nn

from faithattn import AdapterError, AttentionView, adapt, adversarial_attention, permutation_test
from faithattn.adapters.interception.site import Site

LENGTH = IDS.shape[1]


def roles(model: nn.Module, ids: Tensor, **options: Any) -> list[tuple[str, tuple[int, ...], str]]:
    found = adapt(model, **options).sites(ids)
    assert all(site.used == (site.role == "attention") for site in found)
    return [(site.name, site.shape, site.role) for site in found]


class Routed(Words):
    """Self-attention, or none, then a mixture of as many experts as there are positions."""

    def __init__(self, *, attends: bool, experts: int = LENGTH, **options: Any) -> None:
        super().__init__(**options)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.choice = nn.Linear(SIZE, experts).double()
            self.experts = nn.ModuleList(nn.Linear(SIZE, SIZE).double() for _ in range(experts))
        self.attends = attends

    def forward(self, ids: Tensor) -> Tensor:
        states = self.word(ids)
        if self.attends:
            real = (ids != 0)[:, None, None]
            heads = states[:, None]
            states = F.scaled_dot_product_attention(heads, heads, heads, attn_mask=real)[:, 0]
        shares = self.choice(states.flatten(0, 1)).softmax(-1).view(*ids.shape, -1)
        chosen = torch.stack([expert(states) for expert in self.experts], -2)
        return self.out((shares[..., None] * chosen).sum(-2).mean(1))


SHORT = torch.tensor([[5, 9, 7, 8, 2], [4, 0, 0, 0, 0]])  # one text cannot be shortened


@pytest.mark.parametrize("ids", [IDS, FULL, SHORT, IDS[:1]], ids=["padded", "full", "short", "one"])
def test_a_router_over_as_many_experts_as_positions(ids: Tensor) -> None:
    size = len(ids)
    router = (size, LENGTH, LENGTH)
    assert roles(Routed(attends=True), ids) == [
        ("attention", (size, 1, LENGTH, LENGTH), "attention"),
        ("attention#1", router, "gate"),
    ]
    alone = Routed(attends=False)
    assert roles(alone, ids) == [("attention", router, "gate")]
    with pytest.raises(AdapterError, match=r"got these candidates: 'attention' .*, gate\)\. Name"):
        adapt(alone).run(ids)


def test_what_was_learned_of_a_router_holds_for_other_lengths() -> None:
    model = Routed(attends=True)
    assert list(adapt(model).run(IDS).attention) == ["attention"]
    longer = torch.cat([FULL, FULL], 1)
    assert roles(model, longer)[1] == ("attention#1", (3, 10, LENGTH), "gate")
    fresh = Routed(attends=True)
    assert roles(fresh, longer)[1] == ("attention#1", (3, 10, LENGTH), "keys are no positions")
    assert roles(fresh, FULL)[1] == ("attention#1", (3, LENGTH, LENGTH), "gate")


OUTPUTS: dict[str, tuple[Callable[[Tensor], Any], Any]] = {
    "probabilities": (lambda p: p, None),
    "logarithms": (lambda p: p.log(), None),
    "in a tuple": (lambda p: (p, "more"), None),
    "in a mapping": (lambda p: {"p": p}, lambda returned: returned["p"]),
    "made logits of": (lambda p: {"p": p}, lambda returned: returned["p"].log()),
}


@pytest.mark.parametrize(("wrap", "logits"), OUTPUTS.values(), ids=OUTPUTS)
def test_an_output_over_as_many_classes_as_positions(wrap: Any, logits: Any) -> None:
    model = Called(lambda model, ids: wrap(Words.forward(model, ids).softmax(-1)), classes=LENGTH)
    for ids in (IDS, FULL, IDS[:1]):
        shape = (len(ids), LENGTH)
        assert roles(model, ids, logits=logits) == [
            ("attention", shape, "attention"),
            ("attention#1", shape, "output"),
        ]
        assert list(adapt(model, logits=logits).run(ids).attention) == ["attention"]


def test_an_output_that_is_used_further_is_no_attention_either() -> None:
    model = Called(
        lambda model, ids: Words.forward(model, ids).softmax(-1) @ torch.eye(LENGTH).double() * 2,
        classes=LENGTH,
    )
    assert [role for *_, role in roles(model, FULL)] == ["attention", "gate"]


def talking(heads: int) -> Callable[[Words, Tensor], Tensor]:
    """Scores are weighed by a softmax over heads before that over keys."""

    def forward(model: Words, ids: Tensor) -> Tensor:
        states = model.word(ids)
        split = states.unflatten(-1, (heads, -1)).transpose(1, 2)
        scores = split @ split.transpose(-1, -2) * 3
        scores = (scores * scores.softmax(1)).masked_fill((ids == 0)[:, None, None], -1e9)
        return model.out((scores.softmax(-1) @ states[:, None]).sum(1).mean(1))

    return forward


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_a_softmax_over_heads(heads: int) -> None:
    for ids in (IDS, FULL, FULL[:, :3], FULL[:, :2]):
        size, length = ids.shape
        over_heads, over_keys = roles(Called(talking(heads)), ids)
        assert over_keys == ("attention#1", (size, heads, length, length), "attention")
        assert over_heads[2] in ("gate", "keys are no positions")


def test_gates_by_softmax() -> None:
    def forward(model: Words, ids: Tensor) -> Tensor:
        vectors = model.word(ids)
        gates = torch.cat([vectors, model.hidden(vectors)], -1).softmax(-1)
        return model.decide(vectors * gates[..., :SIZE], ids != 0)

    for ids in (IDS, IDS[:1]):
        assert [role for *_, role in roles(Called(forward), ids)] == [
            "keys are no positions",
            "attention",
        ]


def test_pooling_and_self_attention_and_a_module_called_twice() -> None:
    class Both(Words):
        def __init__(self) -> None:
            super().__init__()
            with torch.random.fork_rng():
                torch.manual_seed(0)
                self.layer = nn.MultiheadAttention(SIZE, 2, batch_first=True).double()
            self.pooling = Pooling()

        def forward(self, ids: Tensor) -> Tensor:
            states, closed = self.word(ids), ids == 0
            states = self.layer(states, states, states, key_padding_mask=closed)[0]
            states = self.layer(states, states, states, key_padding_mask=closed)[0]
            return self.out(self.pooling(states, closed) + self.pooling(-states, closed))

    class Pooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with torch.random.fork_rng():
                torch.manual_seed(0)
                self.score = nn.Linear(SIZE, 1).double()

        def forward(self, states: Tensor, closed: Tensor) -> Tensor:
            scores = self.score(states).squeeze(-1).masked_fill(closed, -1e9)
            return (scores.softmax(-1)[..., None] * states).sum(1)

    model = Both()
    sites = adapt(model).sites(IDS)
    names = ["layer", "layer#1", "pooling", "pooling#1"]
    assert [site.name for site in sites] == names
    assert [site.call for site in sites] == [0, 1, 0, 1]
    assert [site.kind for site in sites] == ["multi_head"] * 2 + ["softmax"] * 2
    assert [site.shape for site in sites] == [(3, 2, 5, 5)] * 2 + [(3, 5)] * 2
    assert all(site.role == "attention" and site.used for site in sites)
    assert sites[2].where.startswith("test_discovery.py:")
    assert str(sites[2]) == f"'pooling' (3, 5) (softmax, {sites[2].where})"
    with pytest.raises(AdapterError, match=r"'layer' \(3, 2, 5, 5\), .*AttentionView.cls\(\)"):
        permutation_test(model, IDS)
    for view, expected in (
        (AttentionView.cls(), "layer#1, query 0"),
        (AttentionView.cls(layer=0), "layer, query 0"),
        (AttentionView.last_query(heads=1), "layer#1, head 1, last query"),
        (AttentionView.cross(layer=0), "pooling, query -1"),
        (AttentionView("pooling#1"), "pooling#1"),
    ):
        result = permutation_test(model, IDS, n_permutations=2, seed=0, view=view)
        assert result.view == expected
    with pytest.raises(AdapterError, match=r"view must choose sites of one shape; got 'layer' \(3"):
        permutation_test(model, IDS, view=AttentionView.mean())
    with pytest.raises(
        AdapterError, match=r"attention named 'pool' on these inputs; got 'layer' \("
    ):
        permutation_test(model, IDS, view=AttentionView("pool"))


# --- keys that are more than the positions --------------------------------------------------


def with_sink(model: Words, ids: Tensor) -> Tensor:
    """A softmax over the positions and one key that holds nothing."""
    states = model.states(model.word(ids))
    scores = model.score(states).squeeze(-1).masked_fill(ids == 0, -1e9)
    weights = torch.cat([scores, torch.zeros(len(ids), 1)], 1).softmax(-1)
    return model.pool(weights[:, :-1], states)


@pytest.mark.parametrize("site", [None, "attention"])
def test_a_sink_is_a_key_that_is_not_explained(site: str | None) -> None:
    model = Called(with_sink)
    assert roles(model, IDS) == [("attention", (3, 6), "attention")]
    padded = F.pad(REAL, (0, 1))
    adapter = adapt(model, site=site, mask=lambda ids: ids != 0)
    run = adapter.run(IDS)
    assert torch.equal(run.mask, padded)
    torch.testing.assert_close(run.logits, with_sink(model, IDS), **CLOSE)
    result = permutation_test(adapter, IDS, n_permutations=3, seed=0)
    sinks = run.attention["attention"][:, -1]
    torch.testing.assert_close(result.mass, 1 - sinks.detach(), **CLOSE)
    assert adversarial_attention(adapter, IDS, n_steps=5, seed=0).attention.shape[-1] == 6


# --- words in sentences --------------------------------------------------------------------


def hierarchical(model: Words, ids: Tensor) -> Tensor:
    """Attention over words (B * S, W), then over sentences (B, S)."""
    flat = ids.flatten(0, 1)
    states = model.states(model.word(flat))
    sentences = (model.weigh(states, flat != 0)[..., None] * states).sum(1)
    sentences = model.states(sentences.view(*ids.shape[:2], SIZE))
    return model.pool(model.weigh(sentences), sentences)


def texts(*shape: int) -> Tensor:
    return torch.randint(1, 12, shape, generator=torch.Generator().manual_seed(0))


SHAPES = [(3, 4, 5), (5, 4, 5), (4, 4, 5), (3, 5, 5), (4, 4, 4), (1, 4, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_words_in_sentences(shape: tuple[int, ...]) -> None:
    """Whatever sizes are the same, both levels are found, and either can be chosen."""
    size, sentences, words = shape
    model, ids = Called(hierarchical, padding=None), texts(*shape)
    assert roles(model, ids) == [
        ("attention", (size, sentences, words), "attention"),
        ("attention#1", (size, sentences), "attention"),
    ]
    with pytest.raises(AdapterError, match=r"'attention#1' .* Choose with view=AttentionView"):
        permutation_test(model, ids)
    result = permutation_test(model, ids, n_permutations=4, seed=1, view=AttentionView(1))
    run = adapt(model, site="attention#1").run(ids)
    ((_, found),) = run.features.items()
    assert found.shape == (size, sentences, SIZE)
    torch.testing.assert_close(model.decide(found), run.logits, **CLOSE)
    expected = model.weigh(model.states(found)).amax(1).detach()
    torch.testing.assert_close(result.max_attention, expected, **CLOSE)


def test_words_of_a_sentence_of_a_text() -> None:
    model, ids = Called(hierarchical, padding=None), texts(3, 4, 5)
    second = permutation_test(model, ids, view=AttentionView(0, query=1), n_permutations=3, seed=0)
    states = model.states(model.word(ids[:, 1]))
    expected = model.weigh(states).amax(-1).detach()
    torch.testing.assert_close(second.max_attention, expected, **CLOSE)


def test_a_site_describes_itself() -> None:
    site = Site("a.b#1", "softmax", (2, 3), "model.py:7", 1, "gate", used=False)
    assert str(site) == "'a.b#1' (2, 3) (softmax, model.py:7, gate)"
