"""adapt(): which site and which embedding, and what it says where it cannot tell."""

from __future__ import annotations

import warnings

import pytest
import torch
from adapter_models import IDS
from plain_modules import (
    SIZE,
    Plain,
    Pooling,
    Returning,
    RowVector,
    Submodule,
    by_hand,
    other_weights,
)
from torch import Tensor, nn

from faithattn import AdapterError, adapt, check_adapter, permutation_test

REAL = IDS != 0


class Positions(Plain):
    """Adds learned positions, of one row or of as many as there are instances."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.place = nn.Embedding(9, SIZE).double()
        self.rows = rows

    def states(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1]).expand(self.rows, -1)
        added = self.place(places[0] if self.rows == 0 else places)
        return self.hidden(self.embed(ids) + added).tanh()


def test_the_embedding_can_be_chosen() -> None:
    model = Positions(3)
    assert set(adapt(model, embedding="place").run(IDS).features) == {"place"}
    adapter = adapt(model)  # the larger table holds the words
    run = adapter.run(IDS)
    assert set(run.features) == {"embed"}
    torch.testing.assert_close(run.features["embed"], model.embed(IDS))
    with pytest.raises(AdapterError, match=r"got 'words', and these ran: '(place|embed)', '"):
        adapt(model, embedding="words").run(IDS)
    with pytest.raises(AdapterError, match=r"features must name what the model has: .'embed'.*rea"):
        adapter.run(IDS, features={"place": run.features["embed"]})


def test_positions_shared_by_the_batch_are_no_feature() -> None:
    adapter = adapt(Positions(1))
    assert set(adapter.run(IDS).features) == {"embed"}
    check_adapter(adapter, IDS)


def test_several_sites_are_listed_and_chosen() -> None:
    model = Pooling()
    names = ["first", "first#1", "second", "attention"]
    assert [site.name for site in adapt(model).sites(IDS)] == names
    site = adapt(model).sites(IDS)[0]
    assert (site.kind, site.shape) == ("softmax", (3, 4))
    assert site.where.startswith("plain_modules.py:")
    assert list(adapt(model).run(IDS).attention) == names
    with pytest.raises(AdapterError, match=r"view must say .*'first' \(3, 4\).*AttentionView"):
        permutation_test(model, IDS)
    for name in names:
        adapter = adapt(model, site=name)
        run = adapter.run(IDS)
        assert list(run.attention) == [name]
        check_adapter(adapter, IDS)


def test_a_chosen_site_is_the_softmax_inside_and_not_the_context() -> None:
    class Square(Pooling):
        """As many positions as features, so that a context has the shape of weights."""

        def forward(self, ids: Tensor) -> Tensor:
            return self.out(self.first(self.states(ids), ids))

    model = Square()
    assert IDS.shape[1] == SIZE
    adapter = adapt(model, site="first")
    run = adapter.run(IDS)
    given = other_weights(run.attention["first"])
    expected = model.decode(given, model.states(IDS))
    changed = adapter.run(IDS, attention={"first": given})
    torch.testing.assert_close(changed.logits, expected)
    torch.testing.assert_close(changed.attention["first"], given)
    torch.testing.assert_close(adapter.replay(run.state, {"first": given[None]})[0], expected)


def test_only_softmaxes_over_positions_are_candidates() -> None:
    class Gated(Plain):
        def forward(self, ids: Tensor) -> Tensor:
            states = self.states(ids)
            gated = states * torch.cat([states, states], -1).softmax(-1)[..., :SIZE]
            weights = self.weigh(self.scores(states, ids))
            return self.decode(weights, gated).softmax(-1).log() + self.decode(weights, gated)

    model = Gated(n_classes=7)
    assert [site.shape for site in adapt(model).sites(IDS) if site.used] == [(3, 4)]
    roles = [site.role for site in adapt(model).sites(IDS)]
    assert roles == ["keys are no positions", "attention", "keys are no positions"]
    check_adapter(adapt(model), IDS)


def test_what_is_no_module() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module; got int\. Write a"):
        adapt(1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"output must be one of auto, .*; got 'logit'"):
        adapt(Plain(), output="logit")
    for mask in (True, False, "0", 1.5):
        with pytest.raises(TypeError, match="mask must be a function of the inputs, a padding id"):
            adapt(Plain(), mask=mask)  # type: ignore[arg-type]


def test_options_that_are_no_functions() -> None:
    with pytest.raises(TypeError, match=r"call must be a function; got 'x'\. Use adapt"):
        adapt(Plain(), call="x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"logits must be a function; got 'scores'\. Use adapt"):
        adapt(Plain(), logits="scores")  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["site", "embedding"])
def test_options_that_are_no_names(option: str) -> None:
    for value in (3, ["embed"], Plain().embed):
        with pytest.raises(TypeError, match=f"{option} must be a str, the path of a module; got"):
            adapt(Plain(), **{option: value})


def test_a_model_without_a_site() -> None:
    hidden = Submodule(by_hand)
    with pytest.raises(
        AdapterError, match=r"candidates: 'normalise' \(3, 4\) \(module, output\)\."
    ):
        adapt(hidden).run(IDS)
    with pytest.raises(
        AdapterError, match=r"attention named 'nowhere' on these inputs; got 'atten"
    ):
        adapt(Plain(), site="nowhere").run(IDS)
    listing = r"got 'attention' \(3, 4\) \(softmax, plain_modules\.py:\d+\)"
    with pytest.raises(AdapterError, match=listing):
        adapt(Plain(), site="nowhere").run(IDS)


def test_an_override_that_is_never_reached() -> None:
    adapter = adapt(Plain())
    run = adapter.run(IDS)
    given = other_weights(run.attention["attention"])
    message = r"attention must name what the model has: \['attention'\]; got \['a'\], which was"
    with pytest.raises(AdapterError, match=message):
        adapter.run(IDS, attention={"a": given})
    with pytest.raises(AdapterError, match=message):
        adapter.replay(run.state, {"a": given[None]})
    with pytest.raises(ValueError, match="attention must name a site to replace; got none"):
        adapter.replay(run.state, {})
    with pytest.raises(AdapterError, match=r"features must name what the model has: .*never reach"):
        adapter.run(IDS, features={"x": torch.zeros(3, 4, SIZE)})


@pytest.mark.parametrize("model", [Plain(), RowVector()], ids=["(B, L)", "(B, 1, L)"])
def test_an_override_of_another_shape(model: nn.Module) -> None:
    adapter = adapt(model)
    shape = tuple(adapter.run(IDS).attention["attention"].shape)
    message = f"must have the shape of the site, {shape}; got ".replace("(", r"\(")
    with pytest.raises(AdapterError, match=message.replace(")", r"\)") + r"\(3, 3\)"):
        adapter.run(IDS, attention={"attention": torch.ones(3, 3)})


def test_features_of_another_shape() -> None:
    with pytest.raises(AdapterError, match=r"features\['embed'\] must have the shape .*3, 4, 4"):
        adapt(Plain()).run(IDS, features={"embed": torch.zeros(3, 4, 1, dtype=torch.float64)})


def test_what_a_model_returns_without_logits() -> None:
    with pytest.raises(AdapterError, match=r"must return logits as a tensor, .*; got dict\. Pass"):
        adapt(Returning(lambda z: {"scores": z})).run(IDS)
    with pytest.raises(AdapterError, match=r"must return logits as a tensor, .*; got tuple"):
        adapt(Returning(lambda z: ("label", z))).run(IDS)


def test_a_submodule_that_returns_no_weights_is_no_site() -> None:
    class Double(Submodule):
        def weigh(self, scores: Tensor) -> Tensor:
            return self.normalise(scores.squeeze(-1))[0]

    double = adapt(Double(lambda scores: (by_hand(scores), 0)), site="normalise")
    check_adapter(double, IDS)
    with pytest.raises(AdapterError, match=r"rows that sum to 1; got 'hidden'"):
        permutation_test(adapt(Plain(), site="hidden"), IDS)


def test_a_scripted_model_hides_its_calls() -> None:
    class Scripted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.jit.trace(Plain(), IDS, check_trace=False)

        def forward(self, ids: Tensor) -> Tensor:
            return self.inner(ids)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer releases deprecate tracing
        model = Scripted()
    with pytest.raises(
        AdapterError, match=r"model must not be scripted or traced.* at 'inner'\. Ada"
    ):
        adapt(model)


def test_lower_precision_overrides_are_cast() -> None:
    run = adapt(Plain()).run(IDS, attention={"attention": (REAL / REAL.sum(1)[:, None]).float()})
    assert run.attention["attention"].dtype == torch.float64


def test_a_softmax_in_the_logits_function_is_no_site() -> None:
    adapter = adapt(Plain(n_classes=4), logits=lambda z: z.softmax(-1).log())
    assert [site.name for site in adapter.sites(IDS) if site.used] == ["attention"]
    torch.testing.assert_close(adapter.run(IDS).logits, Plain(n_classes=4)(IDS).log_softmax(-1))
