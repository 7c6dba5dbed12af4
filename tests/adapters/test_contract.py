"""check_adapter(): names every violation, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from adapter_models import FEATURE, IDS, SAME_LENGTH, SITE, Adapter, Full, Model, sparsemax
from broken_adapters import BROKEN, Dropping, InTrainMode, TwoClasses, Unrun, replaced
from torch import Tensor, nn

from faithattn import AdapterError, Run, adapt, check_adapter
from faithattn.paper.models import QuestionAnswerer, TextClassifier


@pytest.mark.parametrize("kind", [Adapter, Full, TwoClasses])
@pytest.mark.parametrize("ids", [IDS, SAME_LENGTH, IDS[:1], IDS[1:2], IDS[:, :1]])
def test_a_correct_adapter_passes(kind: type[Adapter], ids: Tensor) -> None:
    check_adapter(kind(), ids)


@pytest.mark.parametrize(
    ("kind", "ids", "expected"), BROKEN, ids=[kind.__name__ for kind, _, _ in BROKEN]
)
def test_a_violation_is_named_and_nothing_else(
    kind: type[Adapter], ids: Tensor, expected: list[str]
) -> None:
    adapter = kind()
    with pytest.raises(AdapterError) as caught:
        check_adapter(adapter, ids)
    violations = caught.value.violations
    assert len(violations) == len(expected), violations
    for violation, beginning in zip(violations, expected, strict=True):
        assert violation.startswith(beginning), violation
        assert violation in str(caught.value)
    assert f"{kind.__name__} must keep the adapter contract; got {len(expected)} violation(s)" in (
        str(caught.value)
    )


def test_every_broken_adapter_is_tested() -> None:
    import broken_adapters

    kinds = {
        kind
        for kind in vars(broken_adapters).values()
        if isinstance(kind, type) and kind.__module__ == "broken_adapters"
        if issubclass(kind, Adapter) and kind not in (Dropping, TwoClasses)
    }
    assert kinds == {kind for kind, _, _ in BROKEN}


def test_dropout_that_ignores_the_mode_is_named_first() -> None:
    with pytest.raises(AdapterError, match="two identical runs must agree") as caught:
        check_adapter(Dropping(), IDS)
    assert caught.value.violations[0].startswith("two identical runs must agree; got logits")


def test_several_violations_are_listed_together() -> None:
    class Both(Full):
        output = "logit"

        def feature(self, x: Tensor) -> Tensor:
            return x.detach()

    with pytest.raises(AdapterError, match=r"1\. output must be one of") as caught:
        check_adapter(Both(), IDS)
    Both.output = "auto"
    assert len(caught.value.violations) == 1  # what a run is comes before what it does
    with pytest.raises(AdapterError, match="carry gradients"):
        check_adapter(Both(), IDS)


NAN, INF = float("nan"), float("inf")
FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "flat logits": ({"logits": lambda z: z[:, 0]}, r"logits must have shape \(batch, outputs\)"),
    "no logits": ({"logits": lambda z: z[:, :0]}, r"logits must have shape .* got \(3, 0\)"),
    "integer logits": ({"logits": lambda z: z.long()}, "logits must be a floating-point tensor"),
    "nan logits": ({"logits": lambda z: z * NAN}, "logits must be finite; .* instance 0 .3 of 3"),
    "infinite logits": ({"logits": lambda z: z + INF}, "logits must be finite"),
    "no site": ({"attention": {}}, "attention must hold at least one site"),
    "flat attention": ({"attention": {SITE: torch.ones(3)}}, r"attention\['a'\] must have shape"),
    "other batch": ({"attention": {SITE: torch.ones(2, 1)}}, r"with B = 3; got \(2, 1\)"),
    "nan attention": ({"attention": lambda a: {SITE: a[SITE] * NAN}}, r"\['a'\] must be finite"),
    "sum": ({"attention": lambda a: {SITE: a[SITE] * 1.5}}, "must have rows that sum to 1; got 1"),
    "negative": ({"attention": lambda a: {SITE: -a[SITE]}}, "must not be negative; got -"),
    "integers": ({"attention": {SITE: IDS}}, r"attention\['a'\] must be a floating-point tensor"),
    "float mask": ({"mask": lambda m: m.float()}, "mask must be a boolean tensor, .*float32"),
    "short mask": ({"mask": lambda m: m[:, 1:]}, r"mask must have shape \(3, 4\), .* \(3, 3\)"),
    "site mask": ({"mask": lambda m: {SITE: m[:, 1:]}}, r"mask\['a'\] must have shape \(3, 4\)"),
    "flat features": ({"features": {FEATURE: torch.ones(3, 4)}}, r"must have shape \(B, L, E\)"),
    "nan features": ({"features": {FEATURE: torch.full((3, 4, 4), NAN)}}, "must be finite"),
    "list features": ({"features": [1]}, "features must be a mapping; got list"),
    "support": ({"support": {SITE: torch.ones(3, 4)}}, "must be a boolean tensor, .*float32"),
    "wide support": ({"support": {SITE: IDS > 0, "b": 1}}, ""),
    "short support": ({"support": {SITE: IDS[:, 1:] > 0}}, "must have the shape of the attention"),
}


@pytest.mark.parametrize(("fields", "message"), FIELDS.values(), ids=FIELDS)
def test_a_malformed_run_is_named(fields: dict[str, Any], message: str) -> None:
    adapter = replaced(**fields)
    if not message:
        check_adapter(adapter, IDS)
        return
    with pytest.raises(AdapterError, match=message) as caught:
        check_adapter(adapter, IDS)
    assert len(caught.value.violations) == 1
    assert re.search(message, caught.value.violations[0])


def test_what_is_no_run() -> None:
    class Dictionary:
        def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Any:
            return {"logits": torch.ones(1, 1)}

    with pytest.raises(AdapterError, match=r"run must return a faithattn\.Run; got dict"):
        check_adapter(Dictionary(), IDS)


def test_what_is_no_model() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module or have a run method"):
        check_adapter(object(), IDS)
    with pytest.raises(AdapterError, match=r"run\(inputs\) must not fail; got AdapterError"):
        check_adapter(Unrun(), IDS)


# --- nothing is said about adapters that are right ---------------------------------------


class EqualValues(Full):
    """All positions of an instance have the same value."""

    def logits(self, weights: Tensor, states: Tensor) -> Tensor:
        return super().logits(weights, states[..., :1, :].expand(states.shape))


class ConstantValues(Full):
    """Planted model B: the values are the same whatever the input."""

    def logits(self, weights: Tensor, states: Tensor) -> Tensor:
        return super().logits(weights, torch.ones_like(states))


class Sparse(Full):
    def attend(self, states: Tensor, inputs: Tensor) -> Tensor:
        scores = self.model.score(states).squeeze(-1) * 20
        return sparsemax(scores.masked_fill(inputs == 0, -1e9))


class OppositeLogits(Full):
    """Two logits that add up to nothing."""

    def logits(self, weights: Tensor, states: Tensor) -> Tensor:
        positive = super().logits(weights, states)
        return torch.cat([-positive, positive], -1)


class ExcludedClass(TwoClasses):
    """A class that cannot be, as the question answerer has them."""

    def logits(self, weights: Tensor, states: Tensor) -> Tensor:
        both = super().logits(weights, states)
        lowest = torch.full_like(both[..., :1], torch.finfo(both.dtype).min)
        return torch.cat([both, lowest, lowest], -1)


class LayerNormed(Full):
    """A layer norm behind the pooling hides the scale of the weights."""

    def logits(self, weights: Tensor, states: Tensor) -> Tensor:
        pooled = (weights[..., None] * states).sum(-2)
        return self.model.out(nn.functional.layer_norm(pooled, pooled.shape[-1:]))


class Sinks(Full):
    """Nearly all attention on a special token (id 3) outside the mask."""

    def attend(self, states: Tensor, inputs: Tensor) -> Tensor:
        scores = self.model.score(states).squeeze(-1) + 8 * (inputs == 3)
        return scores.masked_fill(inputs == 0, -1e9).softmax(-1)

    def mask(self, inputs: Tensor) -> Tensor:
        return (inputs != 0) & (inputs != 3)


class TwoSites(Adapter):
    """Two attentions of different layouts, one of them with a query and two heads."""

    def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Run:
        given = attention or {}
        x = self.embed(inputs, features)
        states = self.encode(x, inputs)
        first = given.get("first", self.attend(states, inputs))
        heads = torch.stack([self.attend(states * k, inputs) for k in (2, 3)], 1)[:, :, None]
        second = given.get("second", heads)
        logits = self.logits(first, states) + self.logits(second.mean((1, 2)), states**2)
        weights = {"first": first, "second": second}
        return Run(logits, weights, {"first": inputs != 0, "second": inputs != 0}, {FEATURE: x})


class NanBuffer(Full):
    """A buffer may hold what it likes as long as it stays."""

    def __init__(self) -> None:
        model = Model()
        model.register_buffer("filled", torch.tensor([NAN, INF, -INF]))
        super().__init__(model)


CORRECT = {
    "equal values": (EqualValues, IDS),
    "constant values": (ConstantValues, IDS),
    "sparse": (Sparse, IDS),
    "sparse alone": (Sparse, IDS[:1]),
    "sparse, zeros at one end": (Sparse, torch.tensor([[9, 6, 7, 8], [4, 9, 5, 8], [5, 5, 5, 5]])),
    "opposite logits": (OppositeLogits, IDS),
    "excluded class": (ExcludedClass, IDS),
    "layer norm": (LayerNormed, IDS),
    "sinks": (Sinks, torch.tensor([[3, 5, 6, 3], [3, 9, 3, 0]])),
    "nothing but special tokens in a row": (Sinks, torch.tensor([[3, 5, 6, 3], [3, 3, 0, 0]])),
    "two sites": (TwoSites, IDS),
    "nan buffer": (NanBuffer, IDS),
}


@pytest.mark.parametrize(("kind", "ids"), CORRECT.values(), ids=CORRECT)
def test_no_false_alarm(kind: type[Adapter], ids: Tensor) -> None:
    check_adapter(kind(), ids)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_false_alarm_in_lower_precision(dtype: torch.dtype) -> None:
    check_adapter(Full(Model().to(dtype)), IDS)


def sparse_ends() -> Tensor:
    """The weights of the sparse adapter where zeros come at the end of some rows only."""
    return Sparse().run(CORRECT["sparse, zeros at one end"][1]).attention[SITE]


def test_zeros_at_one_end_are_what_padding_looks_like() -> None:
    zeros = sparse_ends() == 0
    assert zeros[:, -1].any() and not zeros.any(1).all()
    for row in zeros[zeros.any(1)]:
        first = int(row.byte().argmax())
        assert bool(row[first:].all())


def test_weights_may_be_frozen_and_the_model_in_train_mode() -> None:
    model = Model().train()
    model.requires_grad_(False)
    model.score.eval()
    check_adapter(Full(model), IDS)
    assert [part.training for part in (model, model.score, model.out)] == [True, False, True]
    assert not any(weight.requires_grad for weight in model.parameters())


def test_features_may_be_left_out() -> None:
    check_adapter(replaced(features={}), IDS)


def test_a_model_that_runs_in_any_mode_gets_its_statistics_back() -> None:
    class Normalised(InTrainMode):
        def encode(self, x: Tensor, inputs: Tensor) -> Tensor:
            states = super().encode(x, inputs)
            return self.model.norm(states.flatten(0, 1)).view_as(states)

    model = Model()
    model.norm = nn.BatchNorm1d(5).double()
    adapter = Normalised(model.eval())
    mean = model.norm.running_mean.clone()
    with pytest.raises(AdapterError) as caught:
        check_adapter(adapter, IDS)
    assert len(caught.value.violations) == 2
    assert "run() must evaluate in eval mode" in caught.value.violations[0]
    assert "the model's buffers" in caught.value.violations[1]
    assert torch.equal(model.norm.running_mean, mean)
    assert not any(part.training for part in model.modules())


def test_published_models_and_adapted_modules_keep_the_contract() -> None:
    ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0], [2, 9, 3, 0, 0], [2, 3, 0, 0, 0]])
    question: Mapping[str, Tensor] = {
        "passage": ids[:3],
        "question": torch.tensor([[2, 5, 3, 0], [2, 6, 7, 3], [2, 4, 3, 0]]),
        "candidates": torch.tensor([[True, True, False], [True, False, True], [True, True, True]]),
    }
    for double in (False, True):
        text, answerer = TextClassifier(10), QuestionAnswerer(10, 3)
        check_adapter(text.double() if double else text, ids)
        check_adapter(answerer.double() if double else answerer, question)
    check_adapter(adapt(Model()), IDS)
    check_adapter(Model(), IDS)
