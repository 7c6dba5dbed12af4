"""Transformed values against the weights that make them, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faithattn import AdapterError, adapt

IDS = torch.tensor([[5, 6, 7, 8, 2], [4, 9, 3, 0, 0]])
HEADS, SIZE = 2, 6


def values_of(model: nn.Module, inputs: Any = IDS, **options: Any) -> dict[str, Tensor]:
    adapter = adapt(model, **options)
    with torch.no_grad():
        run = adapter.run(inputs)
    return {
        name: adapter.transformed_values(run.state, name, weights).vectors
        for name, weights in run.attention.items()
    }


class Block(nn.Module):
    """Self-attention of two heads, written out, with steps that can be replaced."""

    heads = HEADS

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed = nn.Embedding(12, SIZE, padding_idx=0)
            self.query, self.key, self.value, self.mix = (nn.Linear(SIZE, SIZE) for _ in range(4))
            self.norm, self.out = nn.LayerNorm(SIZE), nn.Linear(SIZE, 3)
        self.double()

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        query, key, value = (self.split(f(x)) for f in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) / 2
        weights = scores.masked_fill((ids == 0)[:, None, None], -1e9).softmax(-1)
        moved = self.moved(self.used(weights, ids), value)
        return self.out(self.norm(x + moved).tanh().mean(1))

    def used(self, weights: Tensor, ids: Tensor) -> Tensor:
        return weights

    def moved(self, weights: Tensor, value: Tensor) -> Tensor:
        return self.mix((weights @ value).transpose(1, 2).flatten(2))

    def expected(self, ids: Tensor = IDS) -> Tensor:
        """f_h(x_j) = (x_j W_V,h + b_V,h) W_O,h, one at a time."""
        value = self.value(self.embed(ids))
        width = SIZE // self.heads
        found = torch.zeros(len(ids), self.heads, ids.shape[1], SIZE).double()
        for h in range(self.heads):
            part = slice(h * width, (h + 1) * width)
            for j in range(ids.shape[1]):
                found[:, h, j] = value[:, j, part] @ self.mix.weight[:, part].T
        return found.detach()


class MaskedAfterwards(Block):
    """Weights put to zero after the softmax, in rows of padding and for later keys."""

    def used(self, weights: Tensor, ids: Tensor) -> Tensor:
        real = (ids != 0)[:, None, :, None]
        return (weights * real).tril()


class Einsum(Block):
    def moved(self, weights: Tensor, value: Tensor) -> Tensor:
        mix = self.mix.weight.unflatten(1, (self.heads, -1))
        return torch.einsum("bhqk,bhkd,ehd->bqe", weights, value, mix) + self.mix.bias


class HeadByHead(Block):
    """No tensor holds all heads before they are added."""

    def moved(self, weights: Tensor, value: Tensor) -> Tensor:
        mix = self.mix.weight.unflatten(1, (self.heads, -1))
        total = self.mix.bias.expand(len(value), value.shape[2], -1)
        for h in range(self.heads):
            total = total + F.linear(weights[:, h] @ value[:, h], mix[:, h])
        return total


class TimeFirst(Block):
    def moved(self, weights: Tensor, value: Tensor) -> Tensor:
        mixed = (weights @ value).permute(2, 0, 1, 3).flatten(2)
        return self.mix(mixed).transpose(0, 1)


class Channels(Block):
    """The output projection as a convolution, numbers of a row on dimension 1."""

    def moved(self, weights: Tensor, value: Tensor) -> Tensor:
        mixed = (weights @ value).transpose(1, 2).flatten(2).transpose(1, 2)
        return F.conv1d(mixed, self.mix.weight[..., None], self.mix.bias).transpose(1, 2)


class Dropped(Block):
    """Weights through dropout, a cast and a gate before they are used."""

    def used(self, weights: Tensor, ids: Tensor) -> Tensor:
        return F.dropout(weights, 0.5, self.training).reshape(weights.shape).double()


class OneHead(Block):
    heads = 1


VARIANTS = [Block, Einsum, HeadByHead, TimeFirst, Channels, Dropped, OneHead]


@pytest.mark.parametrize("kind", VARIANTS)
def test_values_are_those_of_the_weights(kind: type[Block]) -> None:
    model = kind().train()
    (found,) = values_of(model).values()
    torch.testing.assert_close(found, model.expected(), atol=1e-12, rtol=0)
    assert model.training and all(each.grad is None for each in model.parameters())


def test_weights_that_are_masked_after_the_softmax() -> None:
    """They move nothing, and neither do keys that are masked for every row."""
    model, real = MaskedAfterwards(), IDS != 0
    adapter = adapt(model)
    run = adapter.run(IDS)
    found, used = adapter.transformed_values(run.state, "attention", run.attention["attention"])
    expected = model.expected().masked_fill(~real[:, None, :, None], 0)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    allowed = (real[:, :, None] & torch.ones(5, 5).tril().bool())[:, None]
    assert torch.equal(used, allowed.expand_as(used))


@pytest.mark.parametrize("norm_first", [False, True])
def test_multi_head_attention_of_torch(norm_first: bool) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(12, SIZE, padding_idx=0)
            layer = nn.TransformerEncoderLayer(
                SIZE, HEADS, 8, batch_first=True, norm_first=norm_first
            )
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.out = nn.Linear(SIZE, 2)

        def forward(self, ids: Tensor) -> Tensor:
            states = self.encoder(self.embed(ids), src_key_padding_mask=ids == 0)
            return self.out(states[:, 0])

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Encoder().double().eval()
    with torch.no_grad():
        for part in model.parameters():
            part += 0.1 * torch.arange(part.numel()).double().sin().view(part.shape)
    found = values_of(model)
    x = model.embed(IDS)
    layer = model.encoder.layers[0]
    x = layer.norm1(x) if norm_first else x
    value = F.linear(x, layer.self_attn.in_proj_weight[12:], layer.self_attn.in_proj_bias[12:])
    expected = torch.stack(
        [
            value[..., part] @ layer.self_attn.out_proj.weight[:, part].T
            for part in (slice(0, 3), slice(3, 6))
        ],
        1,
    )
    first = found["encoder.layers.0.self_attn"]
    torch.testing.assert_close(first, expected.detach(), atol=1e-12, rtol=0)
    assert found["encoder.layers.1.self_attn"].shape == (2, HEADS, 5, SIZE)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_bert(implementation: str, dtype: torch.dtype) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=12, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=8, attn_implementation=implementation, initializer_range=0.5,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.BertForSequenceClassification(config).to(dtype).eval()
    inputs = {"input_ids": IDS, "attention_mask": (IDS != 0).long()}
    found = values_of(model, inputs)["bert.encoder.layer.1.attention.self"]
    with torch.no_grad():
        x = model.bert(**inputs, output_hidden_states=True).hidden_states[1]
        attention = model.bert.encoder.layer[1].attention
        value, mix = attention.self.value(x), attention.output.dense.weight
        parts = [slice(0, 4), slice(4, 8)]
        expected = torch.stack([value[..., part] @ mix[:, part].T for part in parts], 1)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}[dtype]
    real = (IDS != 0)[:, None, :, None]
    torch.testing.assert_close(
        found * real, expected.to(found.dtype) * real, atol=tolerance, rtol=tolerance
    )


class Pooling(Block):
    """A single row over states: what is summed are its values."""

    def forward(self, ids: Tensor) -> Tensor:
        states = self.value(self.embed(ids)).relu()
        scores = self.query(states)[..., 0].masked_fill(ids == 0, -1e9)
        return self.out((scores.softmax(-1)[..., None] * states).sum(1).tanh())


class MatrixPooling(Pooling):
    def forward(self, ids: Tensor) -> Tensor:
        states = self.value(self.embed(ids)).relu()
        scores = self.query(states)[..., 0].masked_fill(ids == 0, -1e9)
        return self.out((scores.softmax(-1)[:, None] @ states)[:, 0])


@pytest.mark.parametrize("kind", [Pooling, MatrixPooling])
def test_values_of_a_pooling_row_are_what_it_sums(kind: type[Pooling]) -> None:
    model = kind()
    (found,) = values_of(model).values()
    expected = model.value(model.embed(IDS)).relu().detach()
    torch.testing.assert_close(found[:, 0], expected, atol=1e-12, rtol=0)


class OneHeadAlone(OneHead):
    """No output projection: a norm follows."""

    def moved(self, weights: Tensor, value: Tensor) -> Tensor:
        return self.norm((weights @ value)[:, 0])


def test_values_of_one_head_without_projection_are_its_own() -> None:
    model = OneHeadAlone()
    (found,) = values_of(model).values()
    expected = model.value(model.embed(IDS)).detach()
    torch.testing.assert_close(found[:, 0], expected, atol=1e-12, rtol=0)


class Renormalised(Block):
    def used(self, weights: Tensor, ids: Tensor) -> Tensor:
        kept = weights * (ids != 5)[:, None, None]
        return kept / kept.sum(-1, keepdim=True)


class NormFirst(Block):
    """A normalisation between the heads and their projection."""

    def moved(self, weights: Tensor, value: Tensor) -> Tensor:
        return self.mix(self.norm((weights @ value).transpose(1, 2).flatten(2)))


class RelativeValues(Block):
    """Values that depend on the query: no key has one."""

    def moved(self, weights: Tensor, value: Tensor) -> Tensor:
        ramp = torch.arange(weights.shape[-1]).double()
        distance = (ramp[:, None] - ramp).unsqueeze(-1) * torch.ones(SIZE // HEADS).double().cos()
        own = torch.einsum("bhqk,qkd->bhqd", weights, distance)
        return self.mix((weights @ value + own).transpose(1, 2).flatten(2))


class PooledHeads(Block):
    """Heads are mixed only after the queries were averaged."""

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        query, key, value = (self.split(f(x)) for f in (self.query, self.key, self.value))
        weights = (query @ key.transpose(-1, -2)).softmax(-1)
        return self.out((weights @ value).mean(2).flatten(1))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Renormalised, "is not affine in the weights"),
        (NormFirst, "is not affine in the weights"),
        (RelativeValues, "is not affine in the weights"),
        (PooledHeads, "has not one row for each query"),
    ],
)
def test_what_cannot_be_known_is_refused(kind: type[Block], reason: str) -> None:
    model = kind()
    with pytest.raises(AdapterError, match=rf"attention\['attention'\] must be.*{reason}"):
        values_of(model)
    assert all(each.grad is None for each in model.parameters())


def test_another_site_than_those_of_the_model() -> None:
    adapter = adapt(Block())
    run = adapter.run(IDS)
    with pytest.raises(AdapterError, match=r"named 'elsewhere'.*was not reached"):
        adapter.transformed_values(run.state, "elsewhere", run.attention["attention"])
