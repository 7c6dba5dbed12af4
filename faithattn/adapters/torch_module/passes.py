"""Forward passes of a module: one, and as many as it takes to read what was seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from faithattn.adapters.inputs.masks import is_tokenizer, known_real
from faithattn.adapters.inputs.source import (
    replaced_at,
    tensor_at,
)
from faithattn.adapters.inputs.structure import batch_size, described, select_rows
from faithattn.adapters.interception.guards import eager
from faithattn.adapters.interception.layout import Axes, compare_axes
from faithattn.adapters.interception.tap import Tap
from faithattn.adapters.parts import Tree
from faithattn.adapters.replay.program import Program
from faithattn.adapters.replay.recorder import Recorder
from faithattn.adapters.replay.refusal import Unrecordable
from faithattn.adapters.state import evaluating
from faithattn.adapters.torch_module.calls import Call, called, feature, logits_of
from faithattn.adapters.torch_module.forward import Embedded, Forward
from faithattn.adapters.torch_module.plan import Plan
from faithattn.adapters.torch_module.request import Pass, Request, input_name, source_of
from faithattn.adapters.torch_module.tokens import TokenLogits
from faithattn.adapters.torch_module.worth import operations_worth
from faithattn.errors import AdapterError


@dataclass(frozen=True)
class Runner:
    """A module and how it is called."""

    module: nn.Module
    call: Call | None
    logits: Callable[[Any], Tensor] | None
    embedding: str | None
    plan: Plan
    tree: Tree

    def settled(self, request: Request) -> Pass:
        """A pass whose layouts are certain, repeated if the first guess was not."""
        size = batch_size(request.inputs) or 1
        done = self.forward(request, size)
        if done.logits.ndim > 1 and done.logits.shape[0] != size:
            size = self._size_of(done, size)
            done = self.forward(request, size)
        learned = self._layouts(self._plain(done, size))
        if not learned:
            return done
        self.plan.axes = {**self.plan.axes, **learned}
        guessed = {each.place.name: each.axes for each in done.seen}
        guessed |= {each.name: Axes(each.axis) for each in done.found}
        if all(guessed.get(name) == axes for name, axes in learned.items()):
            return done
        return self.forward(request, size)

    def forward(self, request: Request, size: int) -> Pass:
        """One pass of the module in eval mode, under a tap."""
        parts = self.tree.parts()
        recorder = self._recorder(request)
        watch = Forward(
            size,
            request.only,
            request.attention,
            request.features,
            self.plan.axes,
            self.plan.extras,
            recorder,
            self._feature_output(parts.by_path),
            request.tokens,
        )
        inputs = self.with_leaves(request, watch)
        tap = Tap(
            parts,
            watch,
            outputs=[*request.outputs, *filter(None, [watch.feature_output])],
            results=request.tokens is not None or request.search,
            copied=self.plan.copied,
        )
        try:
            with eager(), evaluating(self.module, parts.by_path.values()), tap:
                returned = called(self.call, self.module, inputs)
                watch.returned = True
                logits = self._logits(returned, watch, request)
            program, refusal = _finished(recorder, logits)
        finally:
            if recorder is not None:
                recorder.abandon()
                if recorder.exceeded:
                    self.plan.too_long[request.key()] = self.worth(request)
        del returned
        needed = tap.copies_needed()
        if needed:
            self.plan.copied |= needed
            return self.forward(request, size)
        places = frozenset(watch.places)
        seen, found, shapes = watch.seen, watch.found, watch.shapes
        return Pass(request, size, logits, seen, found, shapes, places, program, refusal)

    def _recorder(self, request: Request) -> Recorder | None:
        """A recorder for as many operations as are worth it, if any."""
        worth = self.worth(request)
        return Recorder(worth) if worth else None

    def worth(self, request: Request) -> int:
        """How many operations are worth recording for the alternatives to come.

        None, if so many were found to be too few: what comes of it is the same.
        """
        if request.only is None or request.alternatives == 0:
            return 0
        if not self.plan.replayed.get(request.only, True):
            return 0
        worth = operations_worth(self.plan, self.module, request.inputs, request.alternatives)
        return worth if worth > self.plan.too_long.get(request.key(), 0) else 0

    def _feature_output(self, parts: Mapping[str, nn.Module]) -> str | None:
        """The submodule whose output is the feature, where that is no embedding."""
        if self.embedding is None:
            return None
        part = parts.get(self.embedding)
        return None if part is None or isinstance(part, nn.Embedding) else self.embedding

    def with_leaves(self, request: Request, watch: Forward) -> Any:
        """The inputs, with the continuous one that is a feature replaced by a leaf."""
        inputs = request.inputs
        path = request.continuous
        value = None if path is None else tensor_at(inputs, path)
        if path is None or value is None:
            return inputs
        name = input_name(path)
        leaf = feature(request.features.get(name), value, name)
        watch.found.append(Embedded(name, leaf, None, None, 0, 0, True))
        return replaced_at(inputs, path, leaf)

    def _logits(self, returned: Any, watch: Forward, request: Request) -> Tensor:
        """The logits in what the model returned, ``(B, C)``."""
        if isinstance(self.logits, TokenLogits):
            return self.logits.take(returned, lambda length: self._real(watch, request, length))
        logits = (self.logits or logits_of)(returned)
        if self.logits is None and logits.ndim == 3:
            raise AdapterError(
                f"logits must have shape (B, C); got {tuple(logits.shape)}, one row for every "
                "position. Choose one with adapt(model, logits=token_logits(-1)) or "
                "logits=lambda returned: returned.logits[:, 0]."
            )
        return logits

    def _real(self, watch: Forward, request: Request, length: int) -> Tensor | None:
        """Which of the positions of a sequence of logits are no padding, if that is known."""
        rule = request.mask
        if callable(rule) and not is_tokenizer(rule):
            _require_last_real(rule(request.inputs), length)
            return None
        sources = [
            source_of(each, request.inputs, set())
            for each in watch.found
            if each.value.shape[1] == length
        ]
        if any(source.of_decoder for source in sources):
            sources = [source for source in sources if source.of_decoder]
        for source in sources:
            known = known_real(rule, request.inputs, source, (watch.size, length))
            if known is not None:
                return known
        return None

    def _size_of(self, done: Pass, size: int) -> int:
        """The number of instances by the logits, where the inputs say another."""
        if self.call is None:
            raise AdapterError(
                f"inputs must hold the {done.logits.shape[0]} instances of the logits on "
                f"dimension 0; got {described(done.request.inputs)}. Turn them where the model is "
                "called: adapt(model, call=lambda model, inputs: model(inputs.T))."
            )
        return done.logits.shape[0] if done.logits.shape[0] else size

    def _plain(self, done: Pass, size: int) -> Pass:
        """The pass as the model makes it, whose weights a run of one instance can repeat."""
        request = done.request
        sure = all(each.sure for each in done.seen) and all(each.sure for each in done.found)
        if sure or not (request.attention or request.features):
            return done
        plain = replace(request, attention={}, features={}, alternatives=0)
        with torch.no_grad():
            return self.forward(plain, size)

    def _layouts(self, done: Pass) -> dict[str, Axes]:
        """Finds by a second run on one instance what the shapes alone do not tell."""
        unsure = [each for each in done.seen if not each.sure and each.axes is not None]
        turned = [each for each in done.found if not each.sure]
        if not (unsure or turned) or batch_size(done.request.inputs) not in (None, done.size):
            return {}
        row, copies = (done.size - 1, 1) if done.size > 1 else (0, 2)
        rows = torch.full((copies,), row)
        names = frozenset(each.place.name for each in unsure)
        request = replace(done.request, only=names, attention={}, features={}, alternatives=0)
        try:
            with torch.no_grad():
                alone = self.forward(
                    replace(request, inputs=select_rows(request.inputs, rows)), copies
                )
        except (AdapterError, TypeError, ValueError):
            return {}
        if alone.logits.ndim > 1 and len(alone.logits) != copies:
            raise AdapterError(
                f"inputs must hold the instances on dimension 0; got {described(request.inputs)}, "
                f"of which one row gave logits {tuple(alone.logits.shape)}. Turn them first, and "
                "back where the model is called: adapt(model, call=...)."
            )
        raw = {each.place.name: each.raw for each in alone.seen}
        learned = {}
        for each in unsure:
            name = each.place.name
            found = compare_axes(each.raw, raw[name], done.size, row, copies) if name in raw else []
            if each.axes in found:
                learned[name] = each.axes
            elif found:
                learned[name] = found[0]
            else:
                learned[name] = Axes(-1)  # no reading agrees: the layout stays unknown
        shapes = {each.name: each.raw_shape for each in alone.found}
        for embedded in turned:
            shape = shapes.get(embedded.name, (0, 0))  # (0, 0): it has no axis of instances
            here = [axis for axis in (0, 1) if shape[axis] == copies]
            if len(here) < 2:
                learned[embedded.name] = Axes(here[0] if here else -1)
        return {name: axes for name, axes in learned.items() if axes is not None}


def _require_last_real(mask: Any, length: int) -> None:
    """Raises unless a function's mask leaves no doubt that the last position is no padding."""
    if isinstance(mask, Tensor) and mask.shape[1:] == (length,) and bool(mask[:, -1].all()):
        return
    raise AdapterError(
        "token_logits() must know which position is the last that is no padding; got a mask "
        "function, which also leaves out tokens that are not explained. Use "
        "token_logits(-1), or pass an attention_mask, a tokenizer or the padding id."
    )


def _finished(recorder: Recorder | None, logits: Tensor) -> tuple[Program | None, str]:
    if recorder is None:
        return None, ""
    try:
        return recorder.finish(logits), ""
    except Unrecordable as reason:
        return None, str(reason)
