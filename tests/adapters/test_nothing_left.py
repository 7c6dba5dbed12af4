"""Reading a model changes nothing about it, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from adapter_models import IDS
from plain_modules import Plain, Submodule, by_hand
from torch import Tensor, nn

from faithattn import AdapterError, adapt, check_adapter, permutation_test
from faithattn.adapters.state import condition, evaluating, frozen, modes_of


class Failing(Submodule):
    """Fails where it is told to, in every mode; in train mode it would drop and count."""

    def __init__(self) -> None:
        super().__init__(by_hand, dropout=0.5)
        self.norm = nn.BatchNorm1d(4).double()
        self.register_buffer("marks", torch.tensor([float("nan"), -1.0]))
        self.error: type[BaseException] | None = None
        self.modes: list[bool] = []

    def states(self, ids: Tensor) -> Tensor:
        states = super().states(ids)
        return self.norm(states.flatten(0, 1)).view_as(states)

    def decode(self, weights: Tensor, states: Tensor) -> Tensor:
        self.modes = [part.training for part in self.modules()]
        if self.error is not None:
            raise self.error("stop")
        return super().decode(weights, states)


def mixed() -> Failing:
    """Parts in both modes, some weights frozen, one hook of the user's own."""
    model = Failing()
    for index, part in enumerate(model.modules()):
        part.training = index % 2 == 0
    for index, weight in enumerate(model.parameters()):
        weight.requires_grad_(index % 3 != 0)
    model.out.register_forward_hook(lambda *_: None)
    return model


def picture(model: nn.Module) -> dict[str, Any]:
    parts = list(model.modules())
    return {
        **condition(parts),
        "weights": [weight.detach().clone().numpy().tobytes() for weight in model.parameters()],
        "gradients": [weight.grad for weight in model.parameters()],
        "attributes": [sorted(vars(part)) for part in parts],
        "grad mode": torch.is_grad_enabled(),
    }


def plain_run(model: nn.Module) -> None:
    adapt(model, site="normalise").run(IDS)


def replay_and_remove(model: nn.Module) -> None:
    adapter = adapt(model, site="normalise")
    run = adapter.run(IDS)
    adapter.replay(run.state, {"normalise": run.attention["normalise"][None]})
    adapter.remove(IDS, torch.tensor([0, 0, 0]))
    adapter.sites(IDS)


def contract(model: nn.Module) -> None:
    check_adapter(adapt(model, site="normalise"), IDS)


def metric(model: nn.Module) -> None:
    permutation_test(adapt(model, site="normalise"), IDS, n_permutations=3, seed=0)


def wrong_shape(model: nn.Module) -> None:
    with pytest.raises(AdapterError, match="must have the shape of the site"):
        adapt(model, site="normalise").run(IDS, attention={"normalise": torch.ones(1, 1)})


def no_site(model: nn.Module) -> None:
    with pytest.raises(AdapterError, match="must compute attention"):
        adapt(model).run(IDS)


ACTIONS = [plain_run, replay_and_remove, contract, metric, wrong_shape, no_site]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
def test_nothing_is_left_behind(action: Callable[[nn.Module], None], grad: bool) -> None:
    model = mixed()
    with torch.set_grad_enabled(grad):
        before = picture(model)
        action(model)
        assert picture(model) == before
    assert not any(model.modes)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("action", [plain_run, metric], ids=lambda action: action.__name__)
def test_nothing_is_left_behind_by_a_failure(
    action: Callable[[nn.Module], None], error: type[BaseException]
) -> None:
    model = mixed()
    before = picture(model)
    model.error = error
    reported = AdapterError if error is RuntimeError else error
    with pytest.raises(reported, match="stop"):
        action(model)
    assert picture(model) == before
    assert not any(model.modes)
    assert torch.overrides._get_current_function_mode_stack() == []
    model.error = None
    plain_run(model)  # and it still works


def test_an_interrupt_is_not_taken_for_a_violation() -> None:
    model = mixed()
    before = picture(model)
    model.error = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        contract(model)
    assert picture(model) == before


def test_an_interrupt_in_the_midst_of_the_checks() -> None:
    class Later(Failing):
        count = 0

        def decode(self, weights: Tensor, states: Tensor) -> Tensor:
            self.count += 1
            self.error = KeyboardInterrupt if self.count == self.last else None
            return super().decode(weights, states)

    for last in (3, 4, 5, 6, 12):
        model = Later()
        model.last = last
        model.count, model.error = 0, None
        before = picture(model)
        with pytest.raises(KeyboardInterrupt):
            contract(model)
        assert picture(model) == before


def test_a_tap_ends_with_the_run() -> None:
    plain_run(mixed())
    scores = torch.zeros(1, 2)
    assert F.softmax(scores, -1).tolist() == [[0.5, 0.5]]
    assert torch.overrides._get_current_function_mode_stack() == []


def test_a_run_of_the_model_within_a_run_of_another() -> None:
    inner, outer = Plain(), Plain()
    adapter = adapt(inner)

    class Nested(nn.Module):
        def forward(self, ids: Tensor) -> Tensor:
            inside = adapter.run(ids).logits
            return outer(ids) + inside

    with torch.no_grad():
        torch.testing.assert_close(Nested()(IDS), outer(IDS) + inner(IDS))
        assert adapter.run(IDS).attention["attention"].shape == (3, 4)


def test_modes_and_flags_come_back() -> None:
    model = mixed()
    parts = list(model.modules())
    before = picture(model)
    with evaluating(model):
        assert not any(part.training for part in parts)
    with modes_of(parts, [True] * len(parts)):
        assert all(part.training for part in parts)
        model.norm.running_mean.add_(1)
    weights = list(model.parameters())
    with frozen(weights):
        assert not any(weight.requires_grad for weight in weights)
    assert picture(model) == before
    for context in (evaluating(model), modes_of(parts, [True] * len(parts)), frozen(weights)):
        with pytest.raises(KeyboardInterrupt), context:
            raise KeyboardInterrupt
        assert picture(model) == before


def test_a_condition_shows_every_change() -> None:
    model = mixed()
    parts = list(model.modules())
    before = condition(parts)

    def changed() -> list[str]:
        now = condition(parts)
        return [what for what in now if now[what] != before[what]]

    assert changed() == []
    model.marks[1] = 1.0
    assert changed() == ["the model's buffers"]
    model.marks[1] = -1.0
    handle = model.score.register_forward_pre_hook(lambda *_: None)
    assert changed() == ["the model's hooks"]
    handle.remove()
    model.drop.training = not model.drop.training
    assert changed() == ["the model's mode"]
    model.drop.training = not model.drop.training
    weight = next(model.parameters())
    weight.requires_grad_(not weight.requires_grad)
    assert changed() == ["the model's gradient flags"]
    weight.requires_grad_(not weight.requires_grad)
    with torch.random.fork_rng():
        torch.rand(1)
        assert changed() == ["the global random state"]
    assert changed() == []
