from __future__ import annotations

import copy
import functools
from collections import OrderedDict, UserDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import Case
from torch import Tensor, nn

from faithattn import adapt
from faithattn.audits.batch import Batch
from faithattn.audits.store import digest_of_batch, digest_of_model


def model(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
        net.register_buffer("scale", torch.tensor(2.0), persistent=False)
        return net


def weights(value: Any) -> Any:
    return digest_of_model(value)["digest"]


def attributes(value: Any) -> Any:
    return digest_of_model(value)["attributes"]


CHANGES = {
    "parameter": lambda net: net[0].weight.data[0, 0].add_(1e-6),
    "buffer": lambda net: net[1].running_mean.add_(1),
    "buffer not persistent": lambda net: net.scale.add_(1),
    "dtype": lambda net: net[3].half(),
    "shape": lambda net: setattr(net[0], "bias", nn.Parameter(net[0].bias.detach()[None])),
    "class": lambda net: net.__setitem__(2, nn.AlphaDropout(0.5)),
    "name": lambda net: net.add_module("4", net._modules.pop("3")),
    "tensor attribute": lambda net: setattr(net[0], "shift", torch.ones(1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_of_a_model_is_seen(change: str) -> None:
    net = model()
    before = weights(net)
    CHANGES[change](net)
    assert weights(net) != before


def test_copies_are_the_same_however_they_are_used() -> None:
    net = model()
    found = digest_of_model(net)
    assert found == digest_of_model(model()) == digest_of_model(copy.deepcopy(net).train())
    assert found["class"] == "torch.nn.modules.container.Sequential"
    assert (found["parameters"], found["buffers"]) == (16 + 8 + 10, 4 + 4 + 1 + 1)
    net.requires_grad_(False).eval()(torch.ones(2, 3)).sum()
    assert digest_of_model(net) == found != digest_of_model(model(1))


def test_settings_of_modules_have_a_digest_of_their_own() -> None:
    net = model()
    found = digest_of_model(net)
    net[2].p = 0.25
    assert weights(net) == found["digest"] and attributes(net) != found["attributes"]
    net[2].p = 0.5
    net[0].endless = [net[0], endless := []]
    endless.append(endless)
    assert digest_of_model(net) == found


def test_tied_weights_count_once() -> None:
    tied, apart = (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)) for _ in range(2))
    tied[1].weight = tied[0].weight
    apart.load_state_dict(tied.state_dict())
    assert weights(tied) == weights(apart)
    assert digest_of_model(tied)["parameters"] == digest_of_model(apart)["parameters"] - 9
    layer = nn.Linear(3, 3)
    shared, copied = nn.Sequential(layer, layer), nn.Sequential(layer, copy.deepcopy(layer))
    assert weights(shared) == weights(copied) and attributes(shared) == attributes(copied)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_small_types(dtype: torch.dtype) -> None:
    one, other = model(), model()
    for net in (one, other):
        for each in net.parameters():
            each.data = each.data.to(dtype)
    assert weights(one) == weights(other) != weights(model())
    other[0].bias.data.view(torch.uint8)[0] ^= 1
    assert weights(one) != weights(other)


class Wrapped(Tensor):
    """A tensor that consists of others, as those of quantised weights do."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapped:
        wrapped = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        wrapped.inner = inner
        return wrapped

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @classmethod
    def __torch_dispatch__(cls, function: Any, *_: Any) -> Any:
        raise NotImplementedError(function)


UNUSUAL = {
    "meta": lambda k: torch.empty(3 + k, device="meta"),
    "sparse": lambda k: torch.eye(3).mul(1 + k).to_sparse(),
    "csr": lambda k: torch.eye(3).mul(1 + k).to_sparse_csr(),
    "csc": lambda k: torch.eye(3).mul(1 + k).to_sparse_csc(),
    "complex": lambda k: torch.tensor([1 + k * 1j]).conj(),
    "strided": lambda k: torch.arange(6).reshape(2, 3).T[k:],
    "scalar": lambda k: torch.tensor(float(k)),
    "empty": lambda k: torch.empty(k, 0),
    "nested": lambda k: torch.nested.nested_tensor([torch.ones(2), torch.full((3,), 1.0 + k)]),
    "wrapped": lambda k: Wrapped(torch.tensor([1.0, k])),
}


@pytest.mark.parametrize("kind", UNUSUAL)
@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning", "ignore:Sparse CSC:UserWarning")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested:UserWarning")
def test_unusual_tensors(kind: str) -> None:
    one, other = UNUSUAL[kind](0), UNUSUAL[kind](1)
    digests = [digest_of_batch(Batch(value)) for value in (one, UNUSUAL[kind](0), other)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_tensors() -> None:
    values = torch.tensor([[0.5, 1.0], [1.5, 2.0]])
    scales, zeros = torch.tensor([0.1, 0.2]), torch.zeros(2)
    made = [
        torch.quantize_per_tensor(values, 0.1, 0, torch.qint8),
        torch.quantize_per_tensor(values * 2, 0.2, 0, torch.qint8),  # the same whole numbers
        torch.quantize_per_tensor(values + 1, 0.1, 0, torch.qint8),
        torch.quantize_per_channel(values, scales, zeros, 0, torch.qint8),
        torch.quantize_per_channel(values, scales, zeros, 1, torch.qint8),
    ]
    assert len({digest_of_batch(Batch(each)) for each in made}) == len(made)
    assert digest_of_batch(Batch(made[0])) == digest_of_batch(Batch(made[0].clone()))


def test_lazy_modules_have_no_numbers_yet() -> None:
    found = digest_of_model(nn.LazyLinear(3))
    assert found["parameters"] == 0 and found["digest"] is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_copies_on_other_devices_are_the_same() -> None:
    assert digest_of_model(model()) == digest_of_model(model().cuda())
    ids = torch.ones(2, 3)
    assert digest_of_batch(Batch(ids)) == digest_of_batch(Batch(ids.cuda()))


class Adapter:
    """A hand-written adapter: whatever it has in ``held``."""

    def __init__(self, held: Any, scale: float = 1.0) -> None:
        self._held, self.scale = held, scale


@pytest.mark.parametrize(
    "hold",
    [
        lambda net: net,
        lambda net: [{"deep": (net,)}],
        lambda net: Adapter(net),
        lambda net: functools.partial(torch.relu, net),
        lambda net: net.forward,
        lambda net: lambda x: net(x),
        lambda net: [net, net[0]],
    ],
)
def test_modules_of_adapters_are_found_wherever_they_are(hold: Any) -> None:
    digests = [weights(Adapter(hold(net))) for net in (model(), model(), model(1))]
    assert digests[0] == digests[1] == weights(Adapter(model())) != digests[2]
    assert digest_of_model(Adapter(hold(model())))["parameters"] == 34


def test_adapters_without_modules() -> None:
    class Table:
        __slots__ = ("cache", "table")

        def __init__(self, table: Any) -> None:
            self.table = table

    assert digest_of_model(Adapter("nothing"))["digest"] is None
    assert attributes(Adapter(None, 1.0)) != attributes(Adapter(None, 2.0))
    for make in (torch.tensor, np.array):
        one, same, other = (Table(make([1.0, last])) for last in (2.0, 2.0, 3.0))
        assert weights(one) == weights(same) != weights(other)


def test_reading_a_model_does_not_change_it(text_case: Case) -> None:
    adapted = adapt(text_case.model)
    before = digest_of_model(text_case.model), digest_of_model(adapted)
    adapted.run(text_case.inputs)
    assert (digest_of_model(text_case.model), digest_of_model(adapted)) == before
    assert before[0]["parameters"] == before[1]["parameters"] > 0


DIFFERENT = [
    None, True, 1, 1.0, 0.0, -0.0, "1", b"1", [1], (1,), {1}, {1: 1}, [[1]], [1, None], ["ab"],
    ["a", "b"], {"a": 1}, {"a": {"b": 1}}, {"ab": 1}, torch.tensor(1), torch.tensor([1]),
    torch.tensor([1.0]), torch.tensor([[1]]), np.array([1]), np.array([1], np.int32), np.array("1"),
    np.array([1, None], object), Path("1"), range(1), slice(1), "\ud800",
]  # fmt: skip


def test_different_inputs_have_different_digests() -> None:
    digests = [digest_of_batch(Batch(value)) for value in DIFFERENT]
    assert len(set(digests)) == len(DIFFERENT)
    assert digests == [digest_of_batch(Batch(copy.deepcopy(value))) for value in DIFFERENT]


def test_every_part_of_a_batch_counts() -> None:
    ids = torch.ones(1, 2)
    batches = [
        Batch(ids),
        Batch(ids, labels=[1]),
        Batch(ids, tokens=[["a", "b"]]),
        Batch(ids, clusters=["x"]),
        Batch(ids, target=1),
        Batch(ids, rationale=torch.ones(1, 2, dtype=torch.bool)),
    ]
    assert len({digest_of_batch(batch) for batch in batches}) == len(batches)


def test_what_mappings_are_made_of_counts_and_not_their_order() -> None:
    one, two = {"a": torch.ones(2), "b": [1]}, {"b": [1], "a": torch.ones(2)}
    for other in (two, OrderedDict(two), UserDict(one)):
        assert digest_of_batch(Batch(one)) == digest_of_batch(Batch(other))


def test_objects_count_as_what_they_hold() -> None:
    class Graph:
        def __init__(self, edges: Any) -> None:
            self.edges = edges

    one, same, other = (Batch(Graph(torch.tensor(k))) for k in (1, 1, 2))
    assert digest_of_batch(one) == digest_of_batch(same) != digest_of_batch(other)
    packed = nn.utils.rnn.pack_sequence([torch.ones(2), torch.zeros(1)])
    assert digest_of_batch(Batch(packed)) == digest_of_batch(Batch(packed))


def test_what_cannot_be_known_again_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        TypeError, match=r"inputs\['f'\]\[1\] must be made of .*got builtins\.builtin"
    ):
        digest_of_batch(Batch({"f": [1, len]}))
    with (tmp_path / "file").open("w") as file, pytest.raises(TypeError, match="TextIOWrapper"):
        digest_of_batch(Batch(file))
    with pytest.raises(TypeError, match=r"clusters must be made of .*generator"):
        digest_of_batch(Batch(1, clusters=(k for k in ())))
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match=r"inputs\[0\] must not contain itself; got list"):
        digest_of_batch(Batch(endless))


def test_digests_stay_what_they_are_in_every_process_and_version() -> None:
    """Sets and their like are gone through in another order in each process."""
    net = nn.Linear(2, 1)
    net.load_state_dict({"weight": torch.ones(1, 2), "bias": torch.ones(1)})
    net.names = {"a", "b", "c"}
    found = digest_of_model(net)
    values = {"x": torch.ones(2), "y": ({"p", "q", "r"}, "é", 1.5, None), "z": np.arange(3)}
    assert found["digest"][:16] == "d83f1dc57dfb2189"
    assert digest_of_batch(Batch(values, labels=[1]))[:16] == "aab45ba02d249277"
