"""One adapter for every way to break the contract, with what must be said about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from adapter_models import FEATURE, IDS, SITE, Adapter, Full, Model, Removes, Replays, Selects
from torch import Tensor, nn

from faithattn import Run


class MaskInverted(Adapter):
    def mask(self, inputs: Tensor) -> Tensor:
        return inputs == 0


class MaskEmpty(Adapter):
    def mask(self, inputs: Tensor) -> Tensor:
        return torch.zeros_like(inputs, dtype=torch.bool)


class PaddingReal(Full):
    def mask(self, inputs: Tensor) -> Tensor:
        return torch.ones_like(inputs, dtype=torch.bool)


class PaddingRealWithoutFeatures(Adapter):
    def mask(self, inputs: Tensor) -> Tensor:
        return torch.ones_like(inputs, dtype=torch.bool)

    def run(self, inputs: Any, **overrides: Any) -> Run:
        return dataclasses.replace(super().run(inputs, **overrides), features={})


class OverrideIgnored(Adapter):
    def use(self, given: Tensor, own: Tensor) -> Tensor:
        return own


class OverrideRenormalised(Adapter):
    def use(self, given: Tensor, own: Tensor) -> Tensor:
        return given / given.sum(-1, keepdim=True)


class OverrideUnreported(Full):
    def report(self, given: Tensor, own: Tensor) -> Tensor:
        return own


class OverrideForgotten(Full):
    def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Run:
        run = super().run(inputs, attention=attention, features=features)
        return dataclasses.replace(run, attention={}) if attention else run


class IdentityMoves(Adapter):
    """The model weighs by something sharper than what is reported."""

    def use(self, given: Tensor, own: Tensor) -> Tensor:
        return given**2


class FeaturesDetached(Full):
    def feature(self, x: Tensor) -> Tensor:
        return x.detach()


class FeaturesOfFrozenWeights(Full):
    """Relies on the embedding's own gradient flag."""

    def embed(self, inputs: Tensor, features: Any) -> Tensor:
        return features[FEATURE] if features else self.model.embedding(inputs)


class FeaturesIgnored(Full):
    def embed(self, inputs: Tensor, features: Any) -> Tensor:
        return super().embed(inputs, None)


class FeaturesUnrelated(Full):
    """Returns a leaf that nothing was computed from."""

    def feature(self, x: Tensor) -> Tensor:
        return x.detach().clone().requires_grad_(torch.is_grad_enabled())


class FeaturesTwice(Full):
    """Adds a position vector again to what comes back."""

    def embed(self, inputs: Tensor, features: Any) -> Tensor:
        return super().embed(inputs, features) + 0.5


class GradientNan(Adapter):
    """The square root of zero at padding."""

    def encode(self, x: Tensor, inputs: Tensor) -> Tensor:
        return super().encode(x * x.square().sum(-1, keepdim=True).sqrt(), inputs)


class GradAlways(Full):
    def run(self, inputs: Any, **overrides: Any) -> Run:
        with torch.enable_grad():
            return super().run(inputs, **overrides)


class ReplayOne(Full):
    def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        return super().replay(state, attention) + (len(attention[SITE]) == 1)


class ReplayTransposed(Full):
    """Takes (B, K, ...) where K and B are the same."""

    def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        weights = attention[SITE]
        square = weights.shape[0] == weights.shape[1]
        return self.logits(weights.transpose(0, 1) if square else weights, state)


class ReplayMixed(Full):
    """Repeats the states in the order of the other dimension."""

    def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        weights = attention[SITE]
        count = len(weights)
        states = state.repeat_interleave(count, 0).view(count, *state.shape)
        return self.logits(weights, states)


class ReplaySquare(Full):
    """Broadcasts only where K is 1 or B."""

    def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        weights = attention[SITE]
        return torch.stack([self.logits(weights, state)[k] for k in range(min(3, len(weights)))])


class ReplayOwnShape(Full):
    def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        return super().replay(state, attention).transpose(0, 1)


class ReplayStateDetached(Full):
    def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        return super().replay(state.detach(), attention)


class ReplayStateHalfDetached(Full):
    def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        return super().replay(state.detach() / 2 + state / 2, attention)


class ReplayStateDetachedBehindOppositeLogits(ReplayStateDetached):
    """Two logits that add up to nothing, whatever the gradient."""

    def logits(self, weights: Tensor, states: Tensor) -> Tensor:
        positive = super().logits(weights, states)
        return torch.cat([-positive, positive], -1)


class ReplayAttentionDetached(Full):
    def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        return super().replay(state, {SITE: attention[SITE].detach()})


class StateMissing(Full):
    def state(self, states: Tensor) -> None:
        return None


class InTrainMode(Adapter):
    """Never leaves the mode it finds."""

    def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Run:
        x = self.embed(inputs, features)
        states = self.encode(x, inputs) * (2 if self.model.training else 1)
        weights = attention[SITE] if attention else self.attend(states, inputs)
        logits = self.logits(weights, states)
        return Run(logits, {SITE: weights}, self.mask(inputs), {FEATURE: x})


class StaysInEval(Full):
    def run(self, inputs: Any, **overrides: Any) -> Run:
        self.model.eval()
        return super().run(inputs, **overrides)


class StaysInTrain(Full):
    def run(self, inputs: Any, **overrides: Any) -> Run:
        run = super().run(inputs, **overrides)
        self.model.train()
        return run


class ForgetsPartModes(Full):
    """Gives every part the mode of the whole."""

    def run(self, inputs: Any, **overrides: Any) -> Run:
        mode = self.model.training
        run = super().run(inputs, **overrides)
        self.model.train(mode)
        return run


class TouchesRandom(Full):
    def run(self, inputs: Any, **overrides: Any) -> Run:
        torch.rand(1)
        return super().run(inputs, **overrides)


class SeedsOnce(Full):
    """Seeds at its first run only."""

    seeded = False

    def run(self, inputs: Any, **overrides: Any) -> Run:
        if not self.seeded:
            torch.manual_seed(8)
            self.seeded = True
        return super().run(inputs, **overrides)


class Counting(Model):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor([0.0, 1.0]))


class TouchesBuffers(Full):
    """Swaps two numbers: their sum stays."""

    def __init__(self) -> None:
        super().__init__(Counting())

    def run(self, inputs: Any, **overrides: Any) -> Run:
        self.model.order.copy_(self.model.order.flip(0))
        return super().run(inputs, **overrides)


class LeavesHook(Full):
    """At its first run only."""

    def run(self, inputs: Any, **overrides: Any) -> Run:
        if not self.model.out._forward_hooks:
            self.model.out.register_forward_hook(lambda *_: None)
        return super().run(inputs, **overrides)


class Freezes(Full):
    def run(self, inputs: Any, **overrides: Any) -> Run:
        self.model.requires_grad_(False)
        return super().run(inputs, **overrides)


class BatchNormalised(Replays, Adapter):
    def encode(self, x: Tensor, inputs: Tensor) -> Tensor:
        states = super().encode(x, inputs)
        flat = F.batch_norm(states.flatten(0, 1), None, None, training=True)
        return flat.view_as(states)


class PaddingLeaks(Removes, Replays, Adapter):
    """Averages over padding too, so that a row depends on its neighbours' length."""

    def encode(self, x: Tensor, inputs: Tensor) -> Tensor:
        return super().encode(x, inputs) + x.mean(1, keepdim=True).mean(-1, keepdim=True)


class SelectsWrongRows(Selects, Replays, Adapter):
    def select(self, inputs: Tensor, rows: Tensor) -> Tensor:
        return super().select(inputs, rows.flip(0))


class SelectsOnce(Selects, Replays, Adapter):
    """Drops the rows that are asked for again."""

    def select(self, inputs: Tensor, rows: Tensor) -> Tensor:
        return super().select(inputs, rows.unique())


class RemovesNothing(Full):
    def remove(self, inputs: Tensor, positions: Tensor) -> Tensor:
        return inputs


class RemovesTwo(Full):
    def remove(self, inputs: Tensor, positions: Tensor) -> Tensor:
        once = super().remove(inputs, positions)
        return super().remove(once, torch.zeros_like(positions))


class RemovesFirst(Full):
    def remove(self, inputs: Tensor, positions: Tensor) -> Tensor:
        return super().remove(inputs, torch.zeros_like(positions))


class RemovesLast(Full):
    def remove(self, inputs: Tensor, positions: Tensor) -> Tensor:
        return super().remove(inputs, (inputs != 0).sum(1) - 1)


class WrongOutput(Full):
    output = "probability"


class ReplayRaises(Full):
    def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        raise RuntimeError("no states")


class RemoveRaises(Full):
    def remove(self, inputs: Tensor, positions: Tensor) -> Tensor:
        raise NotImplementedError("later")


class SelectRaises(Selects, Adapter):
    def select(self, inputs: Tensor, rows: Tensor) -> Tensor:
        raise IndexError("row 2")


class RunRaises(Full):
    def run(self, inputs: Any, **overrides: Any) -> Run:
        raise KeyError("encoder")


class FeaturesRaise(Full):
    def embed(self, inputs: Tensor, features: Any) -> Tensor:
        if features:
            raise TypeError("unexpected features")
        return super().embed(inputs, None)


class Dropping(Adapter):
    """Dropout that does not look at the mode."""

    def encode(self, x: Tensor, inputs: Tensor) -> Tensor:
        return F.dropout(super().encode(x, inputs), 0.5, training=True)


class TwoClasses(Full):
    def __init__(self) -> None:
        super().__init__(Model(2))


class FeaturesDetachedInTwoClasses(TwoClasses):
    def feature(self, x: Tensor) -> Tensor:
        return x.detach()


_LEAVE = "run() must leave {} as it was; got a change. Restore it."
_K = "replay of 'a' must agree with run for K = {}, B = 3"

# What is broken, the inputs, and how every violation begins.
BROKEN: list[tuple[type[Adapter], Tensor, list[str]]] = [
    (MaskInverted, IDS, ["mask must be True at real positions and False at padding"]),
    (MaskEmpty, IDS, ["mask must be True at real positions and False at padding"]),
    (PaddingReal, IDS, ["mask must be False at padding; got True at an end of rows"]),
    (PaddingRealWithoutFeatures, IDS, ["mask must be False at padding; got True at an end"]),
    (OverrideIgnored, IDS, ["an override of 'a' must reach the output; got the same logits"]),
    (OverrideRenormalised, IDS, ["an override of 'a' must be used as given"]),
    (OverrideUnreported, IDS, ["run(attention=...) must report the override of 'a'"]),
    (OverrideForgotten, IDS, ["run(attention=...) must report the override of 'a'"]),
    (IdentityMoves, IDS, ["an identity override must leave the logits"]),
    (FeaturesDetached, IDS, ["features['x'] must carry gradients to the logits"]),
    (FeaturesDetachedInTwoClasses, IDS, ["features['x'] must carry gradients to the logits"]),
    (FeaturesOfFrozenWeights, IDS, ["features['x'] must carry gradients to the logits"]),
    (FeaturesIgnored, IDS, ["run(features=...) must use features['x']"]),
    (FeaturesUnrelated, IDS, ["logits must depend on features['x']; got no path"]),
    (FeaturesTwice, IDS, ["run(features=...) must give the same logits for the same features"]),
    (GradientNan, IDS, ["features['x'] must have finite gradients; got NaN"]),
    (GradAlways, IDS, ["run() must obey torch.no_grad(); got logits that require gradients"]),
    (ReplayOne, IDS, [_K.format(1)]),
    (ReplayOne, IDS[:1], ["replay of 'a' must agree with run for K = 1, B = 1"]),
    (ReplayTransposed, IDS, [_K.format(3)]),
    (ReplayMixed, IDS, [_K.format(3), _K.format(4)]),
    (ReplaySquare, IDS, [_K.format(4)]),
    (ReplayOwnShape, IDS, [_K.format(1), _K.format(3), _K.format(4)]),
    (ReplayStateDetached, IDS, ["replay of 'a' must be differentiable in features['x']; got no"]),
    (
        ReplayStateHalfDetached,
        IDS,
        ["replay of 'a' must be differentiable in features['x']; got another gradient than run"],
    ),
    (
        ReplayStateDetachedBehindOppositeLogits,
        IDS,
        ["replay of 'a' must be differentiable in features['x']; got no"],
    ),
    (ReplayAttentionDetached, IDS, ["replay of 'a' must be differentiable in attention; got no"]),
    (StateMissing, IDS, ["run() must return a state where replay() exists; got None"]),
    (InTrainMode, IDS, ["run() must evaluate in eval mode; got logits"]),
    (StaysInEval, IDS, [_LEAVE.format("the model's mode")]),
    (StaysInTrain, IDS, [_LEAVE.format("the model's mode")]),
    (ForgetsPartModes, IDS, [_LEAVE.format("the model's mode")]),
    (TouchesRandom, IDS, [_LEAVE.format("the global random state")]),
    (SeedsOnce, IDS, [_LEAVE.format("the global random state")]),
    (TouchesBuffers, IDS, [_LEAVE.format("the model's buffers")]),
    (LeavesHook, IDS, [_LEAVE.format("the model's hooks")]),
    (Freezes, IDS, [_LEAVE.format("the model's gradient flags")]),
    (BatchNormalised, IDS, ["instances must not influence each other; got logits"]),
    (PaddingLeaks, IDS, ["instances must not influence each other; got logits"]),
    (SelectsWrongRows, IDS, ["instances must not influence each other; got logits"]),
    (SelectsOnce, IDS, ["instances must not influence each other; got logits inf apart"]),
    (RemovesNothing, IDS, ["remove(inputs, positions) must shorten every row by one"]),
    (RemovesTwo, IDS, ["remove(inputs, positions) must shorten every row by one"]),
    (RemovesFirst, IDS, ["remove(inputs, positions) must delete the position that is named; got"]),
    (RemovesLast, IDS, ["remove(inputs, positions) must delete the position that is named; got"]),
    (WrongOutput, IDS, ["output must be one of auto, sigmoid, softmax, identity"]),
    (ReplayRaises, IDS, ["replay(state, attention) must not fail; got RuntimeError: no states"]),
    (RemoveRaises, IDS, ["remove(inputs, positions) must not fail; got NotImplementedError"]),
    (SelectRaises, IDS, ["select(inputs, rows) must not fail; got IndexError: row 2"]),
    (RunRaises, IDS, ["run(inputs) must not fail; got KeyError: 'encoder'"]),
    (FeaturesRaise, IDS, ["run(features=...) must not fail; got TypeError: unexpected"]),
]


def replaced(**fields: Any) -> Adapter:
    """An adapter whose runs have other fields; a function makes one from the right one."""

    class Replaced(Adapter):
        def run(self, inputs: Any, **overrides: Any) -> Run:
            run = super().run(inputs, **overrides)
            values = {
                name: value(getattr(run, name)) if callable(value) else value
                for name, value in fields.items()
            }
            return dataclasses.replace(run, **values)

    return Replaced()


class Unrun(nn.Module):
    """Neither an adapter nor a model with attention."""

    def forward(self, ids: Tensor) -> Tensor:
        return ids.double()
