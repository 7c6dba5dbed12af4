"""Compiled, scripted, checkpointed and parallel models work, or say the way out."""

from __future__ import annotations

import copy
import pickle
import socket
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_evaluating import IDS, Reader, deep, surroundings
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from watching import halved

from faithattn import AdapterError, adapt


def check(model: nn.Module, plain: nn.Module, *, name: str = "attention", **options: Any) -> None:
    """An adapted model gives what the plain one gives, changed or not."""
    adapter, oracle = adapt(model, **options), adapt(plain)
    before = surroundings()
    expected = oracle.run(IDS)
    run = adapter.run(IDS)
    assert list(run.attention) == [name]
    torch.testing.assert_close(run.attention[name], expected.attention["attention"])
    torch.testing.assert_close(run.logits, expected.logits)
    identity = adapter.run(IDS, attention={name: run.attention[name]})
    torch.testing.assert_close(identity.logits, run.logits, rtol=0, atol=0)
    changed = adapter.run(IDS, attention={name: halved})
    other = oracle.run(IDS, attention={"attention": halved})
    torch.testing.assert_close(changed.logits, other.logits)
    (slope,) = torch.autograd.grad(run.logits.sum(), run.attention[name])
    (theirs,) = torch.autograd.grad(expected.logits.sum(), expected.attention["attention"])
    torch.testing.assert_close(slope, theirs)
    assert surroundings() == before


@torch.no_grad()
def bare(model: nn.Module) -> Tensor:
    """What the model itself gives, compiled if it is."""
    logits: Tensor = model(IDS)
    return logits


def compiled(function: Any) -> Any:
    return torch.compile(function, backend="eager")


class Parted(Reader):
    """The weights come from a submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.part: Any = Weigh()

    def weigh(self, states: Tensor, ids: Tensor) -> Tensor:
        return self.part(self.score(states).squeeze(-1), ids)


class Weigh(nn.Module):
    def forward(self, scores: Tensor, ids: Tensor) -> Tensor:
        return scores.masked_fill(ids == 0, -1e9).softmax(-1)


class FunctionCompiled(Reader):
    def __init__(self) -> None:
        super().__init__()
        self.function = compiled(lambda scores: F.softmax(scores, -1))

    def weigh(self, states: Tensor, ids: Tensor) -> Tensor:
        return self.function(self.score(states).squeeze(-1).masked_fill(ids == 0, -1e9))


class CompilesOnTheWay(Reader):
    def weigh(self, states: Tensor, ids: Tensor) -> Tensor:
        function = torch.compile(lambda scores: F.softmax(scores, -1), backend="eager")
        return function(self.score(states).squeeze(-1).masked_fill(ids == 0, -1e9))


def test_a_compiled_model() -> None:
    model = Reader()
    check(compiled(model), model)


def test_a_model_that_was_compiled_and_run() -> None:
    model = Reader().eval()
    wrapped = compiled(model)
    expected = bare(wrapped)
    check(wrapped, model)
    torch.testing.assert_close(bare(wrapped), expected)


def test_a_model_compiled_in_its_place() -> None:
    model = Reader().eval()
    model.compile(backend="eager")
    bare(model)
    check(model, Reader())


def test_a_compiled_function_inside() -> None:
    model = FunctionCompiled().eval()
    bare(model)
    check(model, Reader())


def test_a_function_compiled_on_the_way() -> None:
    check(CompilesOnTheWay(), Reader())


@pytest.mark.parametrize("in_place", [True, False])
def test_a_compiled_submodule(in_place: bool) -> None:
    model = Parted().eval()
    if in_place:
        model.part.compile(backend="eager")
    else:
        model.part = compiled(model.part)
    bare(model)
    name = "part" if in_place else "part._orig_mod"
    check(model, Reader(), name=name)
    check(model, Reader(), name=name, site=name)
    check(model, Reader(), name="part", site="part")


def test_the_stance_of_the_caller_comes_back() -> None:
    model = FunctionCompiled()
    with torch.compiler.set_stance("eager_on_recompile"):
        adapt(model).run(IDS)
        assert surroundings()[4] == "eager_on_recompile"
    assert surroundings()[4] == "default"


def test_a_scripted_model_says_the_way_out() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(Weigh())
        model = Reader().eval()
        traced = torch.jit.trace(model, IDS, check_trace=False)
    for each in (scripted, traced):
        with pytest.raises(AdapterError, match=r"must not be scripted or traced.*Adapt the module"):
            adapt(each)
    part = Parted()
    part.part = scripted
    with pytest.raises(AdapterError, match=r"at 'part'.*name a site outside it"):
        adapt(part)
    with pytest.raises(AdapterError, match="must compute attention named 'part'"):
        adapt(part, site="part").run(IDS)


def test_a_scripted_function_says_what_was_seen() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function = torch.jit.script(_softmax)

    class Model(Reader):
        def weigh(self, states: Tensor, ids: Tensor) -> Tensor:
            return function(self.score(states).squeeze(-1))

    with pytest.raises(AdapterError, match="must compute attention that can be seen"):
        adapt(Model()).run(IDS)
    with pytest.raises(AdapterError, match="must compute attention named 'attention'"):
        adapt(Model(), site="attention").run(IDS)
    with pytest.raises(AdapterError):
        adapt(Model()).run(IDS, attention={"attention": halved})


def _softmax(scores: Tensor) -> Tensor:
    return torch.softmax(scores, -1)


class Checkpointed(Reader):
    def __init__(self, *, use_reentrant: bool, only_training: bool = False) -> None:
        super().__init__()
        self.use_reentrant, self.only_training = use_reentrant, only_training

    def weigh(self, states: Tensor, ids: Tensor) -> Tensor:
        if self.only_training and not self.training:
            return super().weigh(states, ids)
        return checkpoint(super().weigh, states, ids, use_reentrant=self.use_reentrant)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoints(use_reentrant: bool) -> None:
    model = Checkpointed(use_reentrant=use_reentrant)
    with pytest.raises(
        AdapterError, match=r"must not checkpoint .* gradients .*'attention'.*no_grad"
    ):
        adapt(model).run(IDS)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "None of the inputs have requires_grad")
        run, expected = adapt(model).run(IDS), adapt(Reader()).run(IDS)
        changed = adapt(model).run(IDS, attention={"attention": halved})
        other = adapt(Reader()).run(IDS, attention={"attention": halved})
    torch.testing.assert_close(run.logits, expected.logits)
    torch.testing.assert_close(changed.logits, other.logits)
    check(Checkpointed(use_reentrant=use_reentrant, only_training=True), Reader())


def test_a_caller_may_checkpoint_a_whole_run() -> None:
    adapter = adapt(Reader())
    row = torch.full((3, 4), 0.25, dtype=torch.float64, requires_grad=True)

    def logits(given: Tensor) -> Tensor:
        return adapter.run(IDS, attention={"attention": given}).logits.sum()

    (expected,) = torch.autograd.grad(logits(row), row)
    (actual,) = torch.autograd.grad(checkpoint(logits, row, use_reentrant=False), row)
    torch.testing.assert_close(actual, expected)


class OwnSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        weights = torch.softmax(scores, -1)
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (weights,) = ctx.saved_tensors
        return weights * (slopes[0] - (slopes[0] * weights).sum(-1, keepdim=True))


def test_attention_inside_an_autograd_function() -> None:
    class Model(Parted):
        def weigh(self, states: Tensor, ids: Tensor) -> Tensor:
            scores = self.score(states).squeeze(-1).masked_fill(ids == 0, -1e9)
            return self.part(scores, ids)

    class Own(nn.Module):
        def forward(self, scores: Tensor, ids: Tensor) -> Tensor:
            return OwnSoftmax.apply(scores)

    model = Model()
    model.part = Own()
    with pytest.raises(AdapterError, match=r"'part' .*inside a torch.autograd.Function.*no_grad"):
        adapt(model).run(IDS)
    with torch.no_grad():
        torch.testing.assert_close(adapt(model).run(IDS).logits, adapt(Reader()).run(IDS).logits)


def test_data_parallel() -> None:
    model = Reader()
    check(nn.DataParallel(model), model)

    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.DataParallel(Reader())

        def forward(self, ids: Tensor) -> Tensor:
            return self.inner(ids)

    check(Inside(), Reader(), name="inner.module")
    several = Inside()
    several.inner.device_ids = [0, 1]
    with pytest.raises(AdapterError, match=r"one thread; .*2 devices at 'inner'.*\.module"):
        adapt(several)


@pytest.fixture
def process_group() -> Iterator[None]:
    if not torch.distributed.is_available():
        pytest.skip("no torch.distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.distributed.init_process_group(
            "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1
        )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_distributed_models() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.distributed.fsdp import fully_shard
        from torch.nn.parallel import DistributedDataParallel

        model = Reader()
        check(DistributedDataParallel(model), model)
        check(compiled(DistributedDataParallel(model)), model)
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        try:
            sharded: nn.Module = fully_shard(Reader().eval(), mesh=mesh)
            sharded(IDS)
        except (RuntimeError, NotImplementedError, AttributeError):
            pytest.skip("this torch does not shard on a CPU")
        check(sharded, Reader())


def test_a_traced_graph() -> None:
    class Simple(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            plain = Reader()
            self.embed, self.score, self.out = plain.embed, plain.score, plain.out

        def forward(self, ids: Tensor) -> Tensor:
            states = self.embed(ids)
            scores = self.score(states).squeeze(-1).masked_fill(ids == 0, -1e9)
            return self.out((F.softmax(scores, -1)[..., None] * states).sum(1))

    plain = Simple()
    check(torch.fx.symbolic_trace(plain), plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(plain, (IDS,))
        graph = exported.module()
    adapter = adapt(graph, call=lambda model, ids: model(ids))
    run, expected = adapter.run(IDS), adapt(plain).run(IDS)
    assert list(run.attention) == ["attention"]
    torch.testing.assert_close(run.logits, expected.logits)
    changed = adapter.run(IDS, attention={"attention": halved})
    other = adapt(plain).run(IDS, attention={"attention": halved})
    torch.testing.assert_close(changed.logits, other.logits)


def norm_by_weight(model: Reader) -> nn.Module:
    torch.nn.utils.parametrizations.weight_norm(model.score)
    torch.nn.utils.parametrizations.orthogonal(model.out)
    return model


def norm_the_old_way(model: Reader) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(model.score)
        torch.nn.utils.spectral_norm(model.out)
    return model


@pytest.mark.parametrize("change", [norm_by_weight, norm_the_old_way])
def test_parametrized_weights(change: Callable[[Reader], nn.Module]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = change(Reader())
    model.eval()
    expected = model(IDS)
    before = deep(dict(model.named_buffers())), model.state_dict().keys()
    run = adapt(model).run(IDS)
    torch.testing.assert_close(run.logits, expected)
    after = deep(dict(model.named_buffers())), model.state_dict().keys()
    assert after == before


def test_lazy_modules_say_the_way_out() -> None:
    class Lazy(Reader):
        def __init__(self) -> None:
            super().__init__()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.score = nn.LazyLinear(1, dtype=torch.float64)  # type: ignore[assignment]

    model = Lazy()
    with pytest.raises(
        AdapterError, match=r"all its weights; .*'score'.*Call model\(inputs\) once"
    ):
        adapt(model)
    model.eval()(IDS)
    adapt(model).run(IDS)


def test_copies_of_an_adapter() -> None:
    adapter = adapt(Reader())
    expected = adapter.run(IDS, attention={"attention": halved})
    for each in (copy.deepcopy(adapter), copy.copy(adapter), pickle.loads(pickle.dumps(adapter))):
        run = each.run(IDS, attention={"attention": halved})
        torch.testing.assert_close(run.logits, expected.logits, rtol=0, atol=0)
        assert repr(each) == repr(adapter)
    other = copy.deepcopy(adapter)
    assert other.model is not adapter.model
    with torch.no_grad():
        other.model.out.bias += 1
    torch.testing.assert_close(
        other.run(IDS).logits, adapter.run(IDS).logits + 1, rtol=0, atol=1e-12
    )


def test_a_model_that_is_pickled_after_it_was_adapted() -> None:
    model = Reader()
    size = len(pickle.dumps(model))
    adapt(model).run(IDS)
    assert len(pickle.dumps(model)) == size
