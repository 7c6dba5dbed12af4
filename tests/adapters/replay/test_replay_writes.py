"""Writing in place: into dependent tensors, into constants, and into views of either."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from replay_models import Attender, L, after, context, ids
from replay_tap import assert_same_as_whole, random_alternatives, record, whole
from torch import Tensor, nn

from faithattn.adapters.replay.geometry import overwrite, write
from faithattn.adapters.replay.refusal import Unrecordable

Step = Callable[[Any, Tensor, Tensor], Tensor]


def _relu(m: Any, h: Tensor, w: Tensor) -> Tensor:
    return m.head((context(h, w) - 0.1).relu_())


def _chain(m: Any, h: Tensor, w: Tensor) -> Tensor:
    c = context(h, w)
    c.add_(1).mul_(2).masked_fill_(c > 2, -1.0).sub_(c.mean()).clamp_(-3, 3)
    c.addcmul_(c, c).div_(2).exp_().sqrt_().neg_().copy_(c * 2).fill_diagonal_(0)
    return m.head(c)


def _part_of_dependent(m: Any, h: Tensor, w: Tensor) -> Tensor:
    c = context(h, w)
    view = c[:, 1:3]
    c[:, 0] = 0
    c[:, 1] = c[:, 2] * c[:, 3]
    c.T[3] += 1
    return m.head(c) + view.sum()


def _whole_then_view(m: Any, h: Tensor, w: Tensor) -> Tensor:
    c = context(h, w)
    early = c.T[1]
    c.mul_(3)
    return m.head(c) + early.sum()


def _masked_number(m: Any, h: Tensor, w: Tensor) -> Tensor:
    sparse = w.clone()
    sparse[sparse < 0.16] = 0
    return m.head(context(h, sparse))


def _alias(m: Any, h: Tensor, w: Tensor) -> Tensor:
    x = torch.zeros(2, 3, dtype=h.dtype)
    view, other = x[0], x[1]
    x[0, 1] = w.amax()
    x[1] += view
    return m.head(context(h, w)) * view.sum() + other + x.sum(0)


def _column(m: Any, h: Tensor, w: Tensor) -> Tensor:
    x = torch.ones(3, 3, dtype=h.dtype)
    columns = x.T
    columns[1] = w[:, 0]
    x.unfold(0, 2, 1)[0, 0].mul_(w[0, 0])
    return m.head(h[:, 0]) * columns + x.diagonal().sum()


def _captured_then_written(m: Any, h: Tensor, w: Tensor) -> Tensor:
    k = h.clone()
    first = context(k, w)
    k.zero_().add_(h[:, :1])
    second = context(k, w)
    k[:, 0] = second
    return m.head(first + context(k, w))


def _index_put(m: Any, h: Tensor, w: Tensor) -> Tensor:
    x = torch.zeros(3, L, dtype=h.dtype)
    x[torch.arange(3), w.argmax(-1)] = w.amax(-1)
    x.scatter_add_(1, w.argmin(-1, keepdim=True), w[:, :1])
    x.index_add_(0, torch.tensor([0, 2]), w[:2])
    return m.head(context(h, x))


def _setitem_dtype(m: Any, h: Tensor, w: Tensor) -> Tensor:
    x = torch.zeros(3, 4, dtype=torch.float32)
    x[:, :2] = context(h, w)[:, :2]
    x += context(h, w)
    return m.head(x.double())


def _empty_write(m: Any, h: Tensor, w: Tensor) -> Tensor:
    c = context(h, w)
    c[:, 4:] = c[:, :0]
    return m.head(c)


def _first_state(h: Tensor) -> tuple[Tensor, Tensor]:
    return h.new_zeros(len(h), 4), h.new_zeros(len(h), 4)


def _decoder(m: Any, h: Tensor, w: Tensor) -> Tensor:
    outputs = torch.zeros(len(h), 4, 3, dtype=h.dtype)
    state = _first_state(h)
    for step in range(4):
        state = m.cell(torch.cat([context(h, w), h[:, step]], -1), state)
        outputs[:, step] = m.head(state[0])
    return outputs


def _decoder_reads_back(m: Any, h: Tensor, w: Tensor) -> Tensor:
    outputs = torch.zeros(len(h), 5, 4, dtype=h.dtype)
    state = _first_state(h)
    for step in range(4):
        state = m.cell(torch.cat([context(h, w), outputs[:, step]], -1), state)
        outputs[:, step + 1] = state[0] + outputs[:, : step + 1].sum(1)
    return m.head(outputs)


def _decoder_list(m: Any, h: Tensor, w: Tensor) -> Tensor:
    outputs, state = [], _first_state(h)
    for step in range(4):
        state = m.cell(torch.cat([context(h, w), h[:, step]], -1), state)
        outputs.append(state[0].unsqueeze(1))
    return m.head(torch.cat(outputs, 1))


CELL = {"cell": lambda: nn.LSTMCell(8, 4)}
EQUAL: dict[str, tuple[Step, dict[str, Any], bool | None]] = {
    "relu_": (_relu, {}, True),
    "chain": (_chain, {}, None),
    "part of a dependent tensor": (_part_of_dependent, {}, True),
    "whole, then an earlier view": (_whole_then_view, {}, True),
    "x[mask] = number": (_masked_number, {}, True),
    "aliases of a constant": (_alias, {}, True),
    "columns": (_column, {}, True),
    "a constant written after use": (_captured_then_written, {}, True),
    "index_put, scatter, index_add": (_index_put, {}, None),
    "another dtype": (_setitem_dtype, {}, True),
    "nothing": (_empty_write, {}, True),
    "decoder": (_decoder, CELL, True),
    "decoder that reads its outputs": (_decoder_reads_back, CELL, True),
    "decoder with a list": (_decoder_list, CELL, True),
    "inplace module": (
        lambda m, h, w: m.head(nn.ReLU(inplace=True)(context(h, w)).squeeze(0)),
        {},
        True,
    ),
}


@pytest.mark.parametrize("gradients", ["no_grad", "inference"])
@pytest.mark.parametrize("name", EQUAL)
def test_equals_whole_forwards(name: str, gradients: str) -> None:
    function, layers, batched = EQUAL[name]
    tolerance = 1e-6 if name == "another dtype" else 1e-10
    with {"no_grad": torch.no_grad, "inference": torch.inference_mode}[gradients]():
        assert_same_as_whole(after(function, **layers), ids(), batched=batched, tolerance=tolerance)


@pytest.mark.parametrize("name", [n for n in EQUAL if n not in ("chain",)])
def test_equals_whole_forwards_recorded_with_gradients(name: str) -> None:
    function, layers, batched = EQUAL[name]
    tolerance = 1e-6 if name == "another dtype" else 1e-10
    assert_same_as_whole(after(function, **layers), ids(), batched=batched, tolerance=tolerance)


def test_a_buffer_allocated_before_the_mark() -> None:
    class Decoder(Attender):
        def make(self) -> None:
            self.cell = nn.LSTMCell(8, 4)

        def forward(self, batch: Tensor) -> Tensor:
            h, _ = self.encoder(self.embedding(batch))
            outputs = torch.ones(len(h), 5, 4, dtype=h.dtype)
            outputs[:, 0] = h[:, 0].detach()
            first, state = outputs[:, 0], _first_state(h)
            for step in range(1, 5):
                scores = (h * state[0][:, None]).sum(-1)
                weights = F.softmax(scores, -1)
                state = self.cell(torch.cat([context(h, weights), outputs[:, step - 1]], -1), state)
                outputs[:, step] = state[0]
            return self.head(outputs) + first.sum()

    for mode in (torch.no_grad(), torch.enable_grad(), torch.inference_mode()):
        with mode:
            for at in (("a0",), ("a2",), ("a1", "a3"), None):
                assert_same_as_whole(Decoder(), ids(), at=at, batched=True)


def test_a_decoder_writes_its_outputs_in_place() -> None:
    with torch.no_grad():
        program = record(after(_decoder, **CELL), ids())
    functions = [node.function for node, *_ in program._steps._steps]
    assert functions.count(write) == 1
    assert functions.count(overwrite) == 3


def test_the_snapshot_passes_gradients() -> None:
    def buffer(m: Any, h: Tensor, w: Tensor) -> Tensor:
        k = h * 2
        k[:, 0] = context(h, w)
        return m.head(context(k, w))

    model = after(buffer)
    alternatives = random_alternatives(model, ids())
    parameters = list(model.encoder.parameters())
    expected = whole(model, ids(), alternatives=alternatives).pow(2).sum()
    actual = record(model, ids())(alternatives).pow(2).sum()
    for one, two in zip(
        torch.autograd.grad(expected, parameters),
        torch.autograd.grad(actual, parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, two)


def test_alternatives_and_constants_are_left_as_they_are() -> None:
    def touching(m: Any, h: Tensor, w: Tensor) -> Tensor:
        w.mul_(2)
        w[:, 0] = 0
        h.mul_(w[..., None])
        return m.head(h.sum(1))

    model = after(touching)
    with torch.no_grad():
        alternatives = random_alternatives(model, ids())
        before = alternatives["a0"].clone()
        program = record(model, ids())
        once = program(alternatives)
        assert torch.equal(alternatives["a0"], before)
        assert torch.equal(program(alternatives), once)
        one = {"a0": alternatives["a0"][:1]}
        torch.testing.assert_close(program(one), once[:1])
        assert torch.equal(alternatives["a0"], before)
        expected = whole(model, ids(), alternatives={"a0": before.clone()})
        torch.testing.assert_close(once, expected)


def test_a_constant_written_unseen_is_refused() -> None:
    def unseen(m: Any, h: Tensor, w: Tensor) -> Tensor:
        k = h.detach().clone()
        first = context(k, w)
        with torch.utils._python_dispatch._disable_current_modes():
            k.add_(1)
        return m.head(first + context(k, w))

    with torch.no_grad(), pytest.raises(Unrecordable, match="changed in place"):
        record(after(unseen), ids())


def test_a_detached_view_of_written_memory_is_refused() -> None:
    def detached(m: Any, h: Tensor, w: Tensor) -> Tensor:
        c = context(h, w)
        c.detach()[:, 0] = 1
        return m.head(c)

    with pytest.raises(Unrecordable, match="detached"):
        record(after(detached), ids())
