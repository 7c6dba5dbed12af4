"""nn.MultiheadAttention and nn.Transformer: what is captured is what they use."""

from __future__ import annotations

import inspect
import itertools
import math
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from watching import Calling, Notes, halved, noise, watched

from faithattn import adapt
from faithattn.adapters.interception import kernels
from faithattn.adapters.interception.tap import Tap
from faithattn.adapters.parts import parts_of

B, H, ROWS, KEYS, E = 3, 2, 4, 5, 6
PADDING = torch.arange(KEYS) >= torch.tensor([5, 3, 4])[:, None]
CAUSAL = torch.ones(ROWS, KEYS).triu(2).bool()


def attention(**options: Any) -> nn.MultiheadAttention:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        module = nn.MultiheadAttention(E, H, dropout=0.3, dtype=torch.float64, **options)
        for weight in module.parameters():
            nn.init.normal_(weight)
    return module.eval()


def by_hand(
    module: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    allowed: Tensor,
    bias: Tensor | float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Weights (B, H, Lq, Lk) of queries (B, Lq, E), and the values (B, H, Lk, E / H) they mix."""
    if module.in_proj_weight is not None:
        parts = module.in_proj_weight.chunk(3)
    else:
        parts = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    shifts = module.in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(x, w, b) for x, w, b in zip((query, key, value), parts, shifts, strict=True)
    )
    size, extra = len(query), 0
    if module.bias_k is not None:
        k = torch.cat([k, module.bias_k.expand(size, 1, E)], 1)
        v = torch.cat([v, module.bias_v.expand(size, 1, E)], 1)
        extra += 1
    if module.add_zero_attn:
        k, v = (torch.cat([each, each.new_zeros(size, 1, E)], 1) for each in (k, v))
        extra += 1
    q, k, v = (x.unflatten(-1, (H, E // H)).transpose(1, 2) for x in (q, k, v))
    scores = torch.einsum("bhqe,bhke->bhqk", q, k) / math.sqrt(E // H)
    allowed = F.pad(allowed.expand(size, H, query.shape[1], key.shape[1]), (0, extra), value=True)
    if isinstance(bias, Tensor):
        scores = scores + F.pad(bias.expand(size, H, query.shape[1], key.shape[1]), (0, extra))
    raised = scores.exp() * allowed
    return raised / raised.sum(-1, keepdim=True), v


def mixed(module: nn.MultiheadAttention, weights: Tensor, values: Tensor) -> Tensor:
    return module.out_proj((weights @ values).transpose(1, 2).flatten(2))


def swapped(first: bool, *tensors: Tensor) -> list[Tensor]:
    return [each if first else each.transpose(0, 1) for each in tensors]


MASKS = ["none", "padding", "float padding", "2-D", "3-D", "float 3-D", "both"]
EXTRAS = [{}, {"add_bias_kv": True}, {"add_zero_attn": True}]
EXTRAS += [{"add_bias_kv": True, "add_zero_attn": True}, {"kdim": 3, "vdim": 7}]


@pytest.mark.parametrize("extra", EXTRAS, ids=str)
@pytest.mark.parametrize("mask", MASKS)
def test_weights_and_outputs(mask: str, extra: dict[str, Any]) -> None:
    allowed = torch.ones(B, 1, ROWS, KEYS, dtype=torch.bool)
    bias: Tensor | float = 0.0
    options: dict[str, Any] = {}
    if mask in ("padding", "both", "float padding"):
        allowed = allowed & ~PADDING[:, None, None]
        options["key_padding_mask"] = PADDING
    if mask == "float padding":
        options["key_padding_mask"] = torch.zeros(B, KEYS).double().masked_fill(PADDING, -math.inf)
    if mask in ("2-D", "both"):
        allowed = allowed & ~CAUSAL
        options["attn_mask"] = CAUSAL
    if mask == "3-D":
        closed = (noise(B, H, ROWS, KEYS, seed=8) > 0.7).index_fill(-1, torch.tensor([0]), False)
        allowed = allowed & ~closed
        options["attn_mask"] = closed.flatten(0, 1)
    if mask == "float 3-D":
        bias = noise(B, H, ROWS, KEYS, seed=9)
        options["attn_mask"] = bias.flatten(0, 1)
    kdim, vdim = extra.get("kdim", E), extra.get("vdim", E)
    query, key, value = (
        noise(B, ROWS, E),
        noise(B, KEYS, kdim, seed=1),
        noise(B, KEYS, vdim, seed=2),
    )
    for first, need, average in itertools.product((True, False), (True, False), (True, False)):
        module = attention(batch_first=first, **extra)
        weights, values = by_hand(module, query, key, value, allowed, bias)
        given = swapped(first, query, key, value)
        call = Calling(
            lambda m=module, g=given, n=need, a=average: m(
                *g, need_weights=n, average_attn_weights=a, **options
            )
        )
        for change in (None, halved):
            used = weights if change is None else change(weights)
            (out, returned), notes = watched(call, change)
            found = notes.found[0].detach().reshape(weights.shape)
            torch.testing.assert_close(found, used.detach(), rtol=0, atol=1e-10)
            assert [place.kind for place in notes.places] == ["multi_head"]
            torch.testing.assert_close(
                *swapped(first, out), mixed(module, used, values), rtol=0, atol=1e-10
            )
            if need:
                expected = used.mean(1) if average else used
                torch.testing.assert_close(returned, expected, rtol=0, atol=1e-10)
            else:
                assert returned is None
        assert torch.equal(
            notes.supports[0]().reshape(weights.shape)[..., :KEYS],  # type: ignore[misc]
            allowed.expand(B, H, ROWS, KEYS),
        )


def test_unbatched_and_keyword_arguments() -> None:
    module = attention()
    query, key = noise(ROWS, E), noise(KEYS, E, seed=1)
    allowed = torch.ones(1, 1, ROWS, KEYS, dtype=torch.bool)
    weights, values = by_hand(module, query[None], key[None], key[None], allowed)
    for need in (True, False):
        call = Calling(lambda n=need: module(value=key, query=query, key=key, need_weights=n)[0])
        out, notes = watched(call)
        torch.testing.assert_close(out, mixed(module, weights, values)[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(notes.found[0].reshape(weights.shape), weights)


def test_a_causal_hint() -> None:
    module = attention(batch_first=True)
    x = noise(B, ROWS, E)
    mask = torch.ones(ROWS, ROWS).triu(1).bool()
    allowed = ~mask.expand(B, 1, ROWS, ROWS)
    weights, values = by_hand(module, x, x, x, allowed)
    for need in (True, False):
        call = Calling(
            lambda n=need: module(x, x, x, attn_mask=mask, is_causal=True, need_weights=n)[0]
        )
        out, notes = watched(call)
        torch.testing.assert_close(out, mixed(module, weights, values), rtol=0, atol=1e-10)
        shown = notes.supports[0]().reshape(B, -1, ROWS, ROWS)  # type: ignore[misc]
        assert torch.equal(shown, allowed.expand(shown.shape))


def test_a_row_that_may_use_no_key() -> None:
    module = attention(batch_first=True)
    x, mask = noise(B, KEYS, E), PADDING.clone()
    mask[1] = True
    for need in (True, False):
        call = Calling(lambda n=need: module(x, x, x, key_padding_mask=mask, need_weights=n)[0])
        out, notes = watched(call)
        assert out.isfinite().all()
        assert (notes.found[0].detach().reshape(B, H, KEYS, KEYS)[1] == 0).all()


def test_gradients_are_those_of_the_module() -> None:
    module = attention(batch_first=True)
    x = noise(B, KEYS, E).requires_grad_()
    for need in (True, False):

        def call(n: bool = need) -> Tensor:
            return module(x, x, x, key_padding_mask=PADDING, need_weights=n)[0].square().sum()

        (expected,) = torch.autograd.grad(call(), x)
        out, notes = watched(Calling(call))
        (actual,) = torch.autograd.grad(out, x, retain_graph=True)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)
        (slope,) = torch.autograd.grad(out, notes.found)
        assert slope.abs().sum() > 0


def test_the_copy_of_torch_function_is_the_function() -> None:
    ours, theirs = kernels.multi_head_attention, F.multi_head_attention_forward
    parameters = inspect.signature(theirs).parameters
    expected = {name: each.default for name, each in parameters.items()}
    actual = {name: each.default for name, each in inspect.signature(ours).parameters.items()}
    assert actual == expected
    assert F.multi_head_attention_forward.__globals__["has_torch_function"](()) is False
    assert ours.__globals__ is not theirs.__globals__


class Encoder(nn.Module):
    """Words through an encoder of torch; the mean of the words decides."""

    def __init__(self, *, nested: bool = True, layers: int = 2, **options: Any) -> None:
        super().__init__()
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(2)
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **options)
            self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=nested)
            self.embed, self.out = nn.Embedding(12, 8, padding_idx=0), nn.Linear(8, 2)
        self.double()

    def forward(self, ids: Tensor) -> Tensor:
        padding = ids == 0
        states = self.encoder(self.embed(ids), src_key_padding_mask=padding)
        states = states.masked_fill(padding[..., None], 0)
        return self.out(states.sum(1) / (~padding).sum(1, keepdim=True))


IDS = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 10, 0, 0], [11, 3, 4, 5, 0]])


def own_weights(model: Encoder, ids: Tensor) -> list[Tensor]:
    """Weights of every layer, from its own module with need_weights, layer after layer."""
    states, padding, found = model.embed(ids), ids == 0, []
    for layer in model.encoder.layers:
        x = layer.norm1(states) if layer.norm_first else states
        mixed_, weights = layer.self_attn(
            x, x, x, key_padding_mask=padding, average_attn_weights=False
        )
        found.append(weights)
        if layer.norm_first:
            states = states + mixed_
            states = states + layer._ff_block(layer.norm2(states))
        else:
            states = layer.norm1(states + mixed_)
            states = layer.norm2(states + layer._ff_block(states))
    return found


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("train", [True, False])
def test_encoders(nested: bool, norm_first: bool, train: bool) -> None:
    model = Encoder(nested=nested, norm_first=norm_first).train(train)
    adapter = adapt(model)
    names = [f"encoder.layers.{n}.self_attn" for n in range(2)]
    for grad in (False, True):
        with torch.set_grad_enabled(grad), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The PyTorch API of nested tensors")
            run = adapter.run(IDS)
            assert list(run.attention) == names
            model.eval()
            torch.testing.assert_close(run.logits, model(IDS), rtol=0, atol=1e-8)
            for found, expected in zip(
                run.attention.values(), own_weights(model, IDS), strict=True
            ):
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
            changed = adapter.run(IDS, attention={names[0]: halved})
            assert (changed.logits - run.logits).abs().min() > 1e-6
            same = adapter.run(IDS, attention={name: lambda weights: weights for name in names})
            torch.testing.assert_close(same.logits, run.logits, rtol=0, atol=0)
            model.train(train)


class Translator(nn.Module):
    """nn.Transformer with masks on both sides; the last step decides."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(3)
            self.both = nn.Transformer(8, 2, 1, 2, 16, batch_first=batch_first)
            self.embed, self.out = nn.Embedding(12, 8, padding_idx=0), nn.Linear(8, 2)
        self.first = batch_first
        self.double()

    def forward(self, ids: Tensor, answer: Tensor) -> Tensor:
        source, target = swapped(self.first, self.embed(ids), self.embed(answer))
        causal = torch.ones(answer.shape[1], answer.shape[1]).triu(1).bool()
        states = self.both(
            source, target, tgt_mask=causal, tgt_is_causal=True,
            src_key_padding_mask=ids == 0, memory_key_padding_mask=ids == 0,
        )  # fmt: skip
        return self.out(states[:, -1] if self.first else states[-1])


@pytest.mark.parametrize("batch_first", [True, False])
def test_encoders_and_decoders(batch_first: bool) -> None:
    model = Translator(batch_first=batch_first).eval()
    answer = torch.tensor([[2, 3, 4, 5], [6, 7, 8, 9], [10, 11, 2, 3]])
    notes = Notes()
    with torch.no_grad(), Tap(parts_of(model), notes):
        model(IDS, answer)
    adapter = adapt(model)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The PyTorch API of nested tensors")
        run = adapter.run((IDS, answer))
        torch.testing.assert_close(run.logits, model(IDS, answer), rtol=0, atol=1e-8)
    shapes = {name: tuple(weights.shape) for name, weights in run.attention.items()}
    assert shapes == {
        "both.encoder.layers.0.self_attn": (3, 2, 5, 5),
        "both.decoder.layers.0.self_attn": (3, 2, 4, 4),
        "both.decoder.layers.0.multihead_attn": (3, 2, 4, 5),
        "both.decoder.layers.1.self_attn": (3, 2, 4, 4),
        "both.decoder.layers.1.multihead_attn": (3, 2, 4, 5),
    }
    for weights in run.attention.values():
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]).double())
    for row in range(3):  # one instance by itself, without its padding
        length = int((IDS[row] != 0).sum())
        with torch.no_grad():
            alone = adapter.run((IDS[row : row + 1, :length], answer[row : row + 1]))
        for name, weights in run.attention.items():
            keys = alone.attention[name].shape[-1]
            rows = alone.attention[name].shape[-2]
            torch.testing.assert_close(
                weights[row, :, :rows, :keys], alone.attention[name][0], rtol=0, atol=1e-8
            )
    with torch.no_grad():
        for name in shapes:
            changed = adapter.run((IDS, answer), attention={name: halved})
            assert (changed.logits - run.logits).abs().max() > 1e-6
