"""Chunks, memory, guards and arguments of a program."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
import torch
from replay_models import Attender, Encoder, TwoSites, after, context, ids
from replay_tap import random_alternatives, record, whole
from torch import Tensor

from faithattn import memory_budget
from faithattn.adapters.replay import program as program_module
from faithattn.adapters.replay.agreement import agree
from faithattn.adapters.replay.program import Program
from faithattn.adapters.replay.refusal import Unrecordable


def _program(model: Any, at: tuple[str, ...] | None = None) -> tuple[Program, dict[str, Tensor]]:
    with torch.no_grad():
        return record(model, ids(), at=at), random_alternatives(model, ids(), at=at, count=9)


def test_any_chunk_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    program, alternatives = _program(Encoder(), ("a0",))
    assert program.chunk(9) == 9
    with torch.no_grad():
        at_once = program(alternatives)
        assert program._chunked
        monkeypatch.setattr(program_module, "_FEWEST_TOGETHER", 2)
        for cached in (1, 2, 4, 8):
            monkeypatch.setattr(program_module, "_CACHED_BYTES", cached * program._steps.largest)
            assert program.chunk(9) == cached
            torch.testing.assert_close(program(alternatives), at_once, rtol=1e-10, atol=1e-10)


def test_few_alternatives_go_one_by_one() -> None:
    program, alternatives = _program(Encoder(), ("a0",))
    assert [program.chunk(count) for count in (1, 7, 8)] == [1, 1, 8]
    with torch.no_grad():
        few = program({"a0": alternatives["a0"][:7]})
        assert program._chunked is None
        torch.testing.assert_close(program(alternatives)[:7], few, rtol=1e-10, atol=1e-10)


def test_the_memory_budget_bounds_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_module, "_FEWEST_TOGETHER", 2)
    program, alternatives = _program(Encoder(), ("a0",))
    peak = program._steps.peak
    assert peak >= program._steps.largest > 0
    with torch.no_grad():
        expected = program(alternatives)
        with memory_budget(3.5 * peak / 2**20):
            assert program.chunk(100) == 3
            torch.testing.assert_close(program(alternatives), expected)
        with memory_budget(peak / 2**21):
            assert program.chunk(100) == 1
            torch.testing.assert_close(program(alternatives), expected)


def test_one_alternative_and_none() -> None:
    program, alternatives = _program(Attender())
    with torch.no_grad():
        every = program(alternatives)
        torch.testing.assert_close(program({"a0": alternatives["a0"][2:3]}), every[2:3])
        assert program({"a0": alternatives["a0"][:0]}).shape == (0, 3, 3)


def test_alternatives_of_any_layout_and_dtype() -> None:
    program, alternatives = _program(Encoder(), ("a0",))
    stack = alternatives["a0"]
    with torch.no_grad():
        expected = program(alternatives)
        for each in (
            stack.mT.contiguous().mT,
            stack.permute(1, 2, 3, 4, 0).contiguous().permute(4, 0, 1, 2, 3),
            stack[:1].expand(9, *stack.shape[1:]),
        ):
            torch.testing.assert_close(
                program({"a0": each}), expected if each.stride(0) else expected[:1].expand(9, 3, 3)
            )
        torch.testing.assert_close(program({"a0": stack.float()}), expected, rtol=1e-5, atol=1e-5)


def test_without_a_batching_rule_alternatives_go_one_by_one() -> None:
    def bags(m: Any, h: Tensor, w: Tensor) -> Tensor:
        table = torch.arange(24.0).reshape(6, 4).to(h)
        bag = torch.nn.functional.embedding_bag(w.topk(2, -1).indices, table, mode="sum")
        return m.head(bag + context(h, w))

    program, alternatives = _program(after(bags))
    with torch.no_grad():
        expected = whole(after(bags), ids(), alternatives=alternatives)
        torch.testing.assert_close(program(alternatives), expected)
    assert program._chunked is False


def test_weights_changed_after_recording_are_noticed() -> None:
    model = Attender()
    program, alternatives = _program(model)
    with torch.no_grad():
        program(alternatives)
        model.head.bias.add_(1)
        with pytest.raises(Unrecordable, match="changed in place"):
            program(alternatives)
    program, alternatives = _program(model)
    model.float()
    with pytest.raises(Unrecordable, match="changed in place"):
        program(alternatives)


def test_arguments_are_checked() -> None:
    program, alternatives = _program(TwoSites())
    with pytest.raises(Unrecordable, match="No alternatives are given for a1"):
        program({"a0": alternatives["a0"]})
    with pytest.raises(ValueError, match=r"attention\['a1'\] must have shape \(K, 3, 6\); got"):
        program({**alternatives, "a1": alternatives["a1"][0]})
    with pytest.raises(ValueError, match=r"as many alternatives for every site; got \[9, 2\]"):
        program({**alternatives, "a1": alternatives["a1"][:2]})


def test_only_needed_constants_are_kept() -> None:
    kept: list[weakref.ref[Any]] = []
    dropped: list[weakref.ref[Any]] = []

    def branches(m: Any, h: Tensor, w: Tensor) -> Tensor:
        unused, used = h * 2, h * 3
        dropped.append(weakref.ref(unused))
        aside = context(unused, w)
        with torch._C.DisableTorchFunction():
            kept.append(weakref.ref(used.untyped_storage()))
            dropped.append(weakref.ref(unused.untyped_storage()))
            dropped.append(weakref.ref(aside.untyped_storage()))
        return m.head(context(used, w))

    with torch.no_grad():
        program = record(after(branches), ids())
    gc.collect()
    assert all(ref() is None for ref in dropped)
    assert all(ref() is not None for ref in kept)
    del program


def test_threads_share_a_program() -> None:
    program, alternatives = _program(Encoder(), ("a0",))
    with torch.no_grad():
        expected = program(alternatives)
    results: list[Tensor] = []

    def work() -> None:
        with torch.no_grad():
            results.append(program(alternatives))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(torch.equal(result, expected) for result in results)


def test_agreement() -> None:
    x = torch.tensor([1.0, -2.0, 0.5])
    assert agree(x, x + 1e-6)
    assert not agree(x, x + 1e-2)
    assert not agree(x, x[:2])
    assert not agree(x, x.double())
    assert not agree(1e-6 * x, 1e-6 * (x + 0.1))
    lowest = torch.tensor([torch.finfo(torch.float32).min, 1.0, -torch.inf, torch.nan])
    assert agree(lowest, lowest)
    assert not agree(lowest, lowest + torch.tensor([0, 0.01, 0, 0]))
    assert not agree(torch.tensor([torch.nan]), torch.zeros(1))
    assert agree(torch.zeros(2), torch.zeros(2))
    assert agree(torch.tensor([1, 2]), torch.tensor([1, 2]))
    assert agree(torch.empty(0), torch.empty(0))


def test_a_program_that_is_wrong_does_not_answer() -> None:
    def batch_dependent(m: Any, h: Tensor, w: Tensor) -> Tensor:
        calls.append(1)
        return m.head(context(h, w))

    calls: list[int] = []
    model = after(batch_dependent)
    with torch.no_grad():
        program = record(model, ids())
        with pytest.raises(Unrecordable, match="own logits"):
            program.verify({"a0": torch.rand(3, 6).double()}, model(ids()))
