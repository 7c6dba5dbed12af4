"""Reading: one run of a model, and what a metric asks of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from adapter_models import FEATURE, IDS, SITE, Adapter, Full, Model
from torch import Tensor

from faithattn import AdapterError, AttentionView, Run, TorchAdapter, memory_budget
from faithattn.adapters.reading import as_adapter, chosen_feature, read, resolve_target


class Counting(Full):
    """Counts what is run and what is replayed."""

    def __init__(self, n_classes: int = 1) -> None:
        super().__init__(Model(n_classes))
        self.runs, self.replays = 0, 0

    def run(self, inputs: Any, **overrides: Any) -> Run:
        self.runs += 1
        return super().run(inputs, **overrides)

    def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        self.replays += 1
        return super().replay(state, attention)


class Stateless(Counting):
    def state(self, states: Tensor) -> None:
        return None


def with_output(adapter: Adapter, output: str) -> Adapter:
    adapter.output = output  # type: ignore[attr-defined]
    return adapter


def test_a_plain_module_is_adapted_and_an_adapter_is_kept() -> None:
    adapter = Adapter()
    assert as_adapter(adapter) is adapter
    assert isinstance(as_adapter(Model()), TorchAdapter)
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module or have a run method; got f"):
        as_adapter(1.0)


@pytest.mark.parametrize("kind", [Counting, Stateless])
def test_replay_agrees_with_whole_runs_and_spares_the_encoder(kind: type[Counting]) -> None:
    adapter = kind()
    with torch.no_grad():
        reading = read(adapter, IDS)
        rows = reading.rows.conditional[None].roll(1, -1) * reading.rows.valid
        rows = torch.cat([rows / rows.sum(-1, keepdim=True), reading.rows.conditional[None]])
        outputs = reading.replay(rows)
        expected = torch.stack(
            [Full.run(adapter, IDS, attention={SITE: row[:, 0]}).logits.sigmoid() for row in rows]
        )
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(outputs[1], reading.outputs)
    counts = (adapter.runs, adapter.replays)
    assert counts == ((1, 1) if kind is Counting else (3, 0))


@pytest.mark.parametrize("kind", [Counting, Stateless])
def test_a_reading_says_how_it_replayed(kind: type[Counting]) -> None:
    reading = read(kind(), IDS)
    assert reading.replayed == "none"
    reading.replay(reading.rows.conditional[None])
    assert reading.replayed == ("adapter" if kind is Counting else "whole forwards")
    assert reading.can_replay is (kind is Counting)


def test_an_adapter_may_name_its_replay() -> None:
    class Recorder(Counting):
        def replayed_by(self, state: Any) -> str:
            return "recorded" if self.replays < 2 else "whole forwards"

    reading = read(Recorder(), IDS)
    assert reading.replayed == "none"
    reading.replay(reading.rows.conditional[None])
    assert reading.replayed == "recorded"
    reading.replay(reading.rows.conditional[None])
    assert reading.replayed == "whole forwards"


def test_a_whole_forward_with_something_replaced() -> None:
    reading = read(Counting(), IDS)
    zero = torch.zeros_like(reading.run.features[FEATURE])
    logits = reading.run_again(attention=reading.rows.attention, features={FEATURE: zero})
    expected = Full().run(IDS, attention=reading.rows.attention, features={FEATURE: zero}).logits
    torch.testing.assert_close(logits, expected)
    assert reading.replayed == "whole forwards"


def test_alternatives_are_counted_with_their_logits() -> None:
    reading = read(Full(Model(50)), IDS)
    # Weights and rows have 3 * 4 elements, logits 3 * 50.
    with memory_budget(1):
        assert reading.alternatives_at_once(bytes_per_element=4) == 2**20 // ((12 + 12 + 150) * 4)
    with memory_budget(1e-6):
        assert reading.alternatives_at_once(bytes_per_element=4) == 1


def test_a_falsy_state_is_a_state() -> None:
    class Zero(Counting):
        def state(self, states: Tensor) -> Any:
            self.states = states
            return 0

        def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
            return super().replay(self.states, attention)

    adapter = Zero()
    reading = read(adapter, IDS)
    reading.replay(reading.rows.conditional[None])
    assert (adapter.runs, adapter.replays) == (1, 1)


def test_a_reading_obeys_the_grad_mode() -> None:
    with torch.no_grad():
        assert not read(Full(), IDS).run.logits.requires_grad
    with torch.enable_grad():
        reading = read(Full(), IDS)
    assert reading.run.logits.requires_grad and reading.run.features[FEATURE].requires_grad
    assert not reading.outputs.requires_grad and not reading.rows.attention[SITE].requires_grad


@pytest.mark.parametrize(
    ("n_classes", "given", "output"),
    [
        (1, "auto", "sigmoid"),
        (3, "auto", "softmax"),
        (3, "sigmoid", "sigmoid"),
        (1, "identity", "identity"),
        (1, "softmax", "softmax"),
    ],
)
def test_outputs_and_predictions(n_classes: int, given: str, output: str) -> None:
    reading = read(with_output(Full(Model(n_classes)), given), IDS)
    logits = reading.run.logits.detach()
    expected = {"sigmoid": logits.sigmoid(), "softmax": logits.softmax(-1), "identity": logits}
    assert reading.output == output
    torch.testing.assert_close(reading.outputs, expected[output])
    if output == "softmax":
        assert torch.equal(reading.predicted, logits.argmax(-1))
    elif output == "sigmoid" and n_classes == 1:
        assert torch.equal(reading.predicted, (logits[:, 0] > 0).long())
    else:
        assert reading.predicted.tolist() == [-1, -1, -1]


def test_a_run_is_checked_before_it_is_read() -> None:
    class Broken(Full):
        def run(self, inputs: Any, **overrides: Any) -> Run:
            run = super().run(inputs, **overrides)
            return dataclasses.replace(run, logits=run.logits / 0)

    with pytest.raises(AdapterError, match="logits must be finite"):
        read(Broken(), IDS)
    with pytest.raises(ValueError, match="output must be one of auto"):
        read(with_output(Full(), "logit"), IDS)
    with pytest.raises(AdapterError, match="view must name a site of the model; got 'b'"):
        read(Full(), IDS, AttentionView("b"))


class Features(Adapter):
    """Shows the given features."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    def run(self, inputs: Any, **overrides: Any) -> Run:
        run = super().run(inputs, **overrides)
        features = {name: run.features[FEATURE] * (1 + k) for k, name in enumerate(self.names)}
        return dataclasses.replace(run, features=features)


def test_the_feature_that_is_attributed_to() -> None:
    assert chosen_feature(read(Features("x"), IDS))[0] == "x"
    reading = read(Features("x", "y"), IDS, AttentionView(SITE, feature="y"))
    name, value = chosen_feature(reading)
    assert name == "y" and value is reading.run.features["y"]
    with pytest.raises(AdapterError, match=r"the model has 'x' \(3, 4, 4\), 'y' .*feature=\.\.\."):
        chosen_feature(read(Features("x", "y"), IDS))
    with pytest.raises(AdapterError, match=r"features must hold .* got none\. Return them"):
        chosen_feature(read(Features(), IDS))
    with pytest.raises(AdapterError, match=r"got 'z', and the features are 'x' \(3, 4, 4\)"):
        chosen_feature(read(Features("x"), IDS, AttentionView(SITE, feature="z")))


def test_of_several_features_the_one_as_long_as_the_keys_is_chosen() -> None:
    class Long(Features):
        def run(self, inputs: Any, **overrides: Any) -> Run:
            run = super().run(inputs, **overrides)
            longer = {"y": torch.cat([run.features["x"]] * 2, 1)}
            return dataclasses.replace(run, features={**run.features, **longer})

    assert chosen_feature(read(Long("x"), IDS))[0] == "x"
    assert chosen_feature(read(Long("x"), IDS, AttentionView(SITE, feature="y")))[0] == "y"
    with pytest.raises(AdapterError, match=r"the model has 'x' .*, 'z' .*, 'y' \(3, 8, 4\)\. Use"):
        chosen_feature(read(Long("x", "z"), IDS))


# classes, output, target, expected classes or the number of classes that there are
TARGETS: list[tuple[int, str, Any, list[int] | int]] = [
    (1, "auto", 1, [1, 1, 1]),
    (1, "auto", torch.tensor([0, 1, 0], dtype=torch.int32), [0, 1, 0]),
    (3, "auto", torch.tensor([2, 1, 0]), [2, 1, 0]),
    (3, "sigmoid", 2, [2, 2, 2]),
    (1, "identity", 0, [0, 0, 0]),
    (1, "auto", 2, 2),
    (1, "auto", -1, 2),
    (3, "auto", 3, 3),
    (3, "sigmoid", torch.tensor([0, 1, 3]), 3),
    (2, "identity", 2, 2),
    (1, "identity", 1, 1),
    (1, "softmax", 1, 1),
]


@pytest.mark.parametrize(("n_classes", "output", "target", "expected"), TARGETS)
def test_targets(n_classes: int, output: str, target: Any, expected: list[int] | int) -> None:
    reading = read(with_output(Full(Model(n_classes)), output), IDS)
    if isinstance(expected, list):
        assert resolve_target(target, reading).tolist() == expected
        return
    with pytest.raises(ValueError, match=f"target must be a class from 0 to {expected - 1}; got"):
        resolve_target(target, reading)


def test_the_default_target_is_the_prediction() -> None:
    reading = read(Full(Model(3)), IDS)
    assert torch.equal(resolve_target(None, reading), reading.predicted)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (torch.tensor([0, 1]), ValueError, r"shape \(3,\), int64; got torch.int64 \(2,\)"),
        (torch.tensor([0.0, 1, 1]), ValueError, "got torch.float32"),
        (torch.tensor([True, False, True]), ValueError, "got torch.bool"),
        (True, TypeError, "target must be an int, a tensor or None; got True"),
        ("positive", TypeError, "got 'positive'. Pass a class"),
    ],
)
def test_what_is_no_target(target: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        resolve_target(target, read(Full(), IDS))
