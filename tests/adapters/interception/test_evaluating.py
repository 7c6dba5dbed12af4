"""A model is left as it was, by several threads, nested runs, failures and its own habits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from watching import halved, noise

from faithattn import AdapterError, adapt
from faithattn.adapters.state import evaluating

IDS = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0], [9, 3, 4, 0]])


class Reader(nn.Module):
    """Words, additive attention, a linear output; parts that behave otherwise in train mode."""

    def __init__(self, *, dropout: float = 0.5) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.embed = nn.Embedding(12, 4, padding_idx=0)
            self.score, self.out = nn.Linear(4, 1), nn.Linear(4, 2)
        self.drop, self.norm = nn.Dropout(dropout), nn.BatchNorm1d(4)
        self.double()

    def weigh(self, states: Tensor, ids: Tensor) -> Tensor:
        return self.score(states).squeeze(-1).masked_fill(ids == 0, -1e9).softmax(-1)

    def forward(self, ids: Tensor) -> Tensor:
        states = self.norm(self.drop(self.embed(ids)).flatten(0, 1)).view(*ids.shape, -1)
        return self.out((self.weigh(states, ids)[..., None] * states).sum(1))


def deep(value: Any) -> Any:
    """Everything there is to a value, comparable with ==."""
    if isinstance(value, Tensor):
        flat = value.detach().contiguous().flatten().view(torch.uint8)
        return (id(value), flat.numpy().tobytes(), value.requires_grad, value.grad is None)
    if isinstance(value, nn.Module):
        return (id(value), {name: deep(each) for name, each in vars(value).items()})
    if isinstance(value, dict):
        return [(key, deep(each)) for key, each in value.items()]
    if isinstance(value, list | tuple):
        return [deep(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else id(value)


def surroundings() -> Any:
    import torch._dynamo

    return (
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        len(torch.overrides._get_current_function_mode_stack()),
        torch._C._len_torch_dispatch_stack(),
        torch._dynamo.eval_frame._stance.stance,
        len(torch.nn.modules.module._global_forward_hooks),
        torch.get_default_dtype(),
        threading.active_count(),
    )


def use(model: nn.Module) -> None:
    adapter = adapt(model)
    run = adapter.run(IDS, attention={"attention": halved})
    adapter.replay(run.state, {"attention": run.attention["attention"].detach()[None]})
    adapter.sites(IDS)


@pytest.mark.parametrize("train", [True, False])
def test_every_attribute_is_as_before(train: bool) -> None:
    model = Reader().train(train)
    model.norm.train(not train)
    use(model)  # the first run of a process may import things
    before = deep(model), surroundings()
    use(model)
    assert (deep(model), surroundings()) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_every_attribute_is_as_before_after_a_failure(error: type[BaseException]) -> None:
    model = Reader()
    fails = {"now": False}

    def hook(*_: Any) -> None:
        if fails["now"]:
            raise error("stop")

    model.score.register_forward_hook(hook)
    use(model)
    before = deep(model), surroundings()
    fails["now"] = True
    expected = AdapterError if error is ValueError else error
    with pytest.raises(expected):
        use(model)
    with pytest.raises(expected):
        adapt(model, site="attention").run(IDS, attention={"attention": lambda _: hook()})
    assert (deep(model), surroundings()) == before
    fails["now"] = False
    use(model)


class Counting(Reader):
    """Its buffers change in eval mode: a counter in place, an average anew, a cache on demand."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.register_buffer("calls", torch.zeros((), dtype=torch.float64))
        self.register_buffer("cache", None)

    def forward(self, ids: Tensor) -> Tensor:
        if self.where == "in place":
            self.calls += 1
        elif self.where == "anew":
            self.calls = self.calls + 1
        elif self.where == "on demand" and self.cache is None:
            self.cache = torch.ones((), dtype=torch.float64)
            self.register_buffer("late", self.cache)
        return super().forward(ids) * (self.calls + 1)


@pytest.mark.parametrize("where", ["in place", "anew", "on demand"])
@pytest.mark.parametrize("grad", [True, False])
def test_buffers_that_change_in_eval_mode(where: str, grad: bool) -> None:
    model = Counting(where)
    before = deep(model)
    adapter = adapt(model)
    with torch.set_grad_enabled(grad):
        runs = [adapter.run(IDS) for _ in range(3)]
        same = adapter.run(IDS, attention={"attention": lambda weights: weights})
    for run in (*runs, same):
        torch.testing.assert_close(run.logits, runs[0].logits, rtol=0, atol=0)
    assert deep(model) == before


def test_a_buffer_that_begins_to_change_is_an_error() -> None:
    class Late(Counting):
        def forward(self, ids: Tensor) -> Tensor:
            self.where = "in place" if len(ids) == 1 else "never"
            return super().forward(ids)

    adapter = adapt(Late("never"))
    adapter.run(IDS)
    with pytest.raises(AdapterError, match="must treat its buffers alike in every run"):
        adapter.run(IDS[:1])


def test_a_model_that_draws_in_eval_mode() -> None:
    class Drawing(Reader):
        def weigh(self, states: Tensor, ids: Tensor) -> Tensor:
            return super().weigh(states + torch.rand_like(states), ids)

    adapter = adapt(Drawing())
    with torch.random.fork_rng():
        torch.manual_seed(3)
        state = torch.get_rng_state()
        first = adapter.run(IDS)
        again = adapter.run(IDS, attention={"attention": lambda weights: weights})
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.logits, again.logits)


def in_threads(work: Callable[[int], Any], count: int = 8) -> list[Any]:
    """What work(0), work(1), ... give, all begun at once."""
    gate = threading.Barrier(count)

    def begun(index: int) -> Any:
        gate.wait()
        return [work(index) for _ in range(4)]

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begun, range(count)))


class Slow(Reader):
    """Gives the other threads a turn in the midst of every run."""

    def weigh(self, states: Tensor, ids: Tensor) -> Tensor:
        threading.Event().wait(0.001)
        return super().weigh(states, ids) * (1 if not self.training else torch.nan)


@pytest.mark.parametrize("site", [None, "attention"])
def test_threads_that_share_an_adapter(site: str | None) -> None:
    model = Slow()
    model.drop.eval()
    adapter = adapt(model, site=site)
    rows = noise(8, 3, 4).softmax(-1)
    adapter.run(IDS)
    before = deep(model), surroundings()[:-1]
    serial = [adapter.run(IDS, attention={"attention": row}).logits for row in rows]
    captured = adapter.run(IDS).attention["attention"]

    def work(index: int) -> tuple[Tensor, Tensor]:
        with torch.set_grad_enabled(index % 2 == 0):
            changed = adapter.run(IDS, attention={"attention": rows[index]})
            return changed.logits, adapter.run(IDS).attention["attention"]

    for index, results in enumerate(in_threads(work)):
        for logits, weights in results:
            assert logits.requires_grad == (index % 2 == 0)
            torch.testing.assert_close(logits, serial[index], rtol=0, atol=0)
            torch.testing.assert_close(weights, captured, rtol=0, atol=0)
    assert (deep(model), surroundings()[:-1]) == before


def test_threads_that_run_models_that_draw_leave_the_random_state() -> None:
    class Drawing(Slow):
        def weigh(self, states: Tensor, ids: Tensor) -> Tensor:
            return super().weigh(states, ids) + torch.rand(1) + torch.rand(1)

    model = Drawing()
    adapter = adapt(model)
    adapter.run(IDS)
    before = torch.get_rng_state()
    in_threads(lambda _: adapter.run(IDS))
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_that_run_different_models() -> None:
    adapters = [adapt(Slow()) for _ in range(8)]
    for index, adapter in enumerate(adapters):
        with torch.no_grad():
            adapter.model.out.bias += index
    serial = [adapter.run(IDS).logits for adapter in adapters]
    for index, results in enumerate(in_threads(lambda index: adapters[index].run(IDS).logits)):
        for logits in results:
            torch.testing.assert_close(logits, serial[index], rtol=0, atol=0)


def test_threads_in_which_some_fail() -> None:
    class Failing(Slow):
        def forward(self, ids: Tensor) -> Tensor:
            logits = super().forward(ids)
            if len(ids) == 1:
                raise KeyboardInterrupt
            return logits

    model = Failing()
    adapter = adapt(model)
    adapter.run(IDS)
    before = deep(model), surroundings()[:-1]

    def work(index: int) -> Any:
        if index % 2:
            with pytest.raises(KeyboardInterrupt):
                adapter.run(IDS[:1])
            return None
        return adapter.run(IDS).logits

    results = in_threads(work)
    expected = adapter.run(IDS).logits
    assert all(torch.equal(logits, expected) for each in results[::2] for logits in each)
    assert (deep(model), surroundings()[:-1]) == before


@pytest.mark.parametrize("same", [True, False])
def test_an_override_that_runs_a_model(same: bool) -> None:
    model, other = Reader(), Reader()
    adapter = adapt(model)
    inner = adapter if same else adapt(other)
    plain = adapter.run(IDS)
    before = deep(model)
    seen: list[Tensor] = []

    def nested(weights: Tensor) -> Tensor:
        run = inner.run(IDS, attention={"attention": halved})
        seen.append(run.logits)
        assert not model.training
        return halved(weights)

    outer = adapter.run(IDS, attention={"attention": nested})
    expected = adapter.run(IDS, attention={"attention": halved})
    assert len(seen) == 1
    torch.testing.assert_close(outer.logits, expected.logits, rtol=0, atol=0)
    torch.testing.assert_close(seen[0], expected.logits, rtol=0, atol=0)
    assert list(outer.attention) == list(plain.attention)
    assert deep(model) == before


def test_an_override_that_calls_the_bare_model_or_a_softmax() -> None:
    model = Reader()
    adapter = adapt(model)

    def nested(weights: Tensor) -> Tensor:
        model(IDS)
        return (weights * 3).softmax(-1)

    run = adapter.run(IDS, attention={"attention": nested})
    weights = adapter.run(IDS).attention["attention"]
    given = adapter.run(IDS, attention={"attention": (weights * 3).softmax(-1)})
    assert list(run.attention) == ["attention"]
    torch.testing.assert_close(run.logits, given.logits, rtol=0, atol=0)


def test_a_model_that_has_an_adapter_inside() -> None:
    class Outer(Reader):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Reader()
            self.adapter = adapt(self.inner)

        def forward(self, ids: Tensor) -> Tensor:
            inside = self.adapter.run(ids, attention={"attention": halved})
            return super().forward(ids) + inside.logits

    model = Outer()
    adapter = adapt(model)
    run = adapter.run(IDS)
    assert list(run.attention) == ["attention"]
    inside = adapt(model.inner).run(IDS, attention={"attention": halved})
    model.eval()
    torch.testing.assert_close(run.logits, model(IDS), rtol=0, atol=0)
    torch.testing.assert_close(run.logits - inside.logits, Reader.forward(model, IDS))


def test_a_hook_of_the_user_that_runs_the_model() -> None:
    model = Reader().eval()
    logits: list[Tensor] = []
    adapter = adapt(model)
    expected = adapter.run(IDS).logits
    inside = {"now": False}

    def hook(*_: Any) -> None:
        if not inside["now"]:
            inside["now"] = True
            logits.append(adapter.run(IDS).logits)
            inside["now"] = False

    model.score.register_forward_hook(hook)
    torch.testing.assert_close(adapter.run(IDS).logits, expected, rtol=0, atol=0)
    torch.testing.assert_close(logits[0], expected, rtol=0, atol=0)


def test_an_abandoned_generator_of_runs() -> None:
    model = Reader()
    adapter = adapt(model)
    adapter.run(IDS)
    before = deep(model), surroundings()

    def runs() -> Any:
        while True:
            yield adapter.run(IDS)

    generator = runs()
    next(generator)
    assert (deep(model), surroundings()) == before
    generator.close()
    assert (deep(model), surroundings()) == before


def test_evaluating_in_a_generator_that_is_left_open() -> None:
    model = Reader()

    def opened() -> Any:
        with evaluating(model):
            yield

    first, second = opened(), opened()
    next(first)
    next(second)
    first.close()  # not in the order in which they were opened
    assert not model.training
    second.close()
    assert all(part.training for part in model.modules())
