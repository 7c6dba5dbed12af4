"""A recorder leaves nothing behind and never disturbs the model."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
import torch
from replay_models import Attender, after, context, ids
from replay_tap import Tap, random_alternatives, record, whole
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from torch.utils.checkpoint import checkpoint

from faithattn.adapters.replay.recorder import Recorder
from faithattn.adapters.replay.refusal import Unrecordable


class Count(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_the_model_leaves_no_mode(error: type[BaseException]) -> None:
    def breaks(m: Any, h: Tensor, w: Tensor) -> Tensor:
        context(h, w)
        raise error("stop")

    with torch.no_grad(), pytest.raises(error, match="stop"):
        record(after(breaks), ids())
    assert _get_current_dispatch_mode_stack() == []


def test_there_is_no_mode_before_the_mark_and_after_the_end() -> None:
    depths: list[int] = []

    class Model(Attender):
        def forward(self, batch: Tensor) -> Tensor:
            depths.append(len(_get_current_dispatch_mode_stack()))
            return super().forward(batch)

        def after(self, h: Tensor, weights: Tensor) -> Tensor:
            depths.append(len(_get_current_dispatch_mode_stack()))
            return super().after(h, weights)

    recorder = Recorder()
    with torch.no_grad(), Tap(recorder):
        logits = Model()(ids())
    recorder.finish(logits)
    assert depths == [0, 1]
    assert _get_current_dispatch_mode_stack() == []
    recorder.abandon()
    recorder.abandon()


def test_abandoned_below_another_mode() -> None:
    recorder, above = Recorder(), Count()
    with torch.no_grad():
        w = recorder.mark("a", torch.ones(2, 3))
        with above:
            w * 2
            recorder.abandon()
            assert _get_current_dispatch_mode_stack() == [above]
        w * 2
    assert _get_current_dispatch_mode_stack() == []
    assert above.calls == 1


def test_inside_a_mode_of_the_caller() -> None:
    model = Attender()
    with torch.no_grad(), Count() as count:
        program = record(model, ids())
    assert count.calls > 0
    alternatives = random_alternatives(model, ids())
    with torch.no_grad():
        torch.testing.assert_close(
            program(alternatives), whole(model, ids(), alternatives=alternatives)
        )


def test_a_mode_of_the_models_own_around_the_mark_is_refused() -> None:
    class Model(Attender):
        def forward(self, batch: Tensor) -> Tensor:
            with Count():
                return super().forward(batch)

    with torch.no_grad(), pytest.raises(Unrecordable, match="dispatch mode"):
        record(Model(), ids())
    assert _get_current_dispatch_mode_stack() == []


def test_a_mode_of_the_models_own_after_the_mark_is_fine() -> None:
    def inside(m: Any, h: Tensor, w: Tensor) -> Tensor:
        with Count():
            return m.head(context(h, w))

    model = after(inside)
    with torch.no_grad():
        program = record(model, ids())
        alternatives = random_alternatives(model, ids())
        torch.testing.assert_close(
            program(alternatives), whole(model, ids(), alternatives=alternatives)
        )


def test_checkpointed_layers() -> None:
    def layer(m: Any, h: Tensor, w: Tensor) -> Tensor:
        return m.head(checkpoint(lambda a: torch.tanh(context(h, a)), w, use_reentrant=False))

    model = after(layer)
    program = record(model, ids())
    alternatives = random_alternatives(model, ids())
    torch.testing.assert_close(
        program(alternatives), whole(model, ids(), alternatives=alternatives)
    )
    assert _get_current_dispatch_mode_stack() == []


def test_no_mark_and_a_second_mark_are_refused() -> None:
    with pytest.raises(Unrecordable, match="No attention was marked"):
        Recorder().finish(torch.zeros(2))
    recorder = Recorder()
    weights = torch.ones(2, 3)
    recorder.mark("a", weights)
    assert recorder.mark("a", weights) is weights
    recorder.abandon()
    with pytest.raises(Unrecordable, match="a is reached twice"):
        recorder.finish(weights)


def test_another_thread_is_refused() -> None:
    recorder = Recorder()
    thread = threading.Thread(target=recorder.mark, args=("a", torch.ones(2, 3)))
    thread.start()
    thread.join()
    with pytest.raises(Unrecordable, match="threads"):
        recorder.finish(torch.zeros(2))


def test_weights_the_model_overwrites_behind_the_mark_are_refused() -> None:
    recorder = Recorder()
    weights = torch.full((2, 3), 0.5)
    shown = recorder.mark("a", weights)
    logits = shown * 2
    weights.zero_()
    with pytest.raises(Unrecordable, match="writes into its attention"):
        recorder.finish(logits)


def test_marked_weights_are_contiguous_and_attached() -> None:
    scores = torch.randn(3, 2, requires_grad=True)
    recorder = Recorder()
    shown = recorder.mark("a", scores.T.softmax(-1))
    recorder.abandon()
    assert shown.is_contiguous()
    assert shown.grad_fn is not None


@pytest.mark.skipif(
    torch.__version__.startswith("2.6."),
    reason="the Python object of a storage outlives its memory in PyTorch 2.6",
)
def test_activations_die_as_in_a_bare_forward() -> None:
    alive: list[int] = []
    references: list[weakref.ref[Any]] = []

    def deep(m: Any, h: Tensor, w: Tensor) -> Tensor:
        x = context(h, w)
        for _ in range(5):
            x = torch.tanh(x * 2)
            with torch._C.DisableTorchFunction():
                references.append(weakref.ref(x.untyped_storage()))
        gc.collect()
        alive.append(sum(ref() is not None for ref in references))
        return m.head(x)

    with torch.no_grad():
        record(after(deep), ids())
    assert alive == [1]


def test_memory_that_is_used_again_is_told_apart() -> None:
    def many(m: Any, h: Tensor, w: Tensor) -> Tensor:
        total = context(h, w)
        for step in range(50):  # constants and dependents take each other's places
            constant = torch.full((3, 4), float(step), dtype=h.dtype)
            total = total + constant * 0.01
            del constant
            other = h[:, 0] * step
            total = total * 0.9 + other
            del other
        return m.head(total)

    model = after(many)
    with torch.no_grad():
        program = record(model, ids())
        alternatives = random_alternatives(model, ids())
        torch.testing.assert_close(
            program(alternatives), whole(model, ids(), alternatives=alternatives)
        )


def test_reads_costs_nothing_before_a_mark_and_never_raises() -> None:
    recorder = Recorder()
    recorder.reads(Tensor.tolist, (torch.ones(2),))
    assert recorder.refused is None
    shown = recorder.mark("a", torch.ones(2, 3))
    recorder.reads(Tensor.tolist, (torch.ones(2),))
    recorder.reads(Tensor.add, (shown, 1))
    recorder.reads(torch.tensor, ([[shown[0, 0]], 1],))
    assert recorder.refused is not None
    recorder.reads(Tensor.tolist, (shown,))
    recorder.abandon()


def test_a_frozen_model_is_not_changed() -> None:
    model = Attender().requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    versions = [p._version for p in model.parameters()]
    hooks = [len(m._forward_hooks) for m in model.modules()]
    program = record(model, ids())
    program(random_alternatives(model, ids()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert versions == [p._version for p in model.parameters()]
    assert hooks == [len(m._forward_hooks) for m in model.modules()]
    assert not any(isinstance(p, nn.Parameter) and p.requires_grad for p in model.parameters())
