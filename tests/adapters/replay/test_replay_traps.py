"""What models do with their attention: replayed as whole forwards have it, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from replay_models import Attender, Encoder, TwoSites, after, context, ids
from replay_tap import assert_same_as_whole, record
from torch import Tensor, nn

from faithattn.adapters.replay.refusal import Unrecordable

Step = Callable[[Any, Tensor, Tensor], Tensor]


def _rows(h: Tensor, index: Tensor) -> Tensor:
    return h[torch.arange(len(h)), index]


def _nested(m: Any, h: Tensor, w: Tensor) -> Tensor:
    parts = torch.nested.nested_tensor([w[0, :3], w[1]], layout=torch.jagged)
    return m.head(h[:, 0]) + parts.values().sum()


def _apply(m: Any, h: Tensor, w: Tensor) -> Tensor:
    return m.head(context(h, w.detach().clone().apply_(lambda value: value**2)))


def _pack(m: Any, h: Tensor, w: Tensor) -> Tensor:
    lengths = (w > 0.1).sum(-1).clamp(min=1)
    packed = nn.utils.rnn.pack_padded_sequence(h, lengths, batch_first=True, enforce_sorted=False)
    return m.head(packed.data[:3])


def _resize(m: Any, h: Tensor, w: Tensor) -> Tensor:
    c = context(h, w).detach()
    return m.head(c.resize_(2, 4))


def _out(m: Any, h: Tensor, w: Tensor) -> Tensor:
    return m.head(torch.mul(context(h, w).detach(), 2, out=torch.empty(3, 4, dtype=h.dtype)))


def _train_norm(m: Any, h: Tensor, w: Tensor) -> Tensor:
    c = context(h, w)
    return m.head(F.batch_norm(c, torch.zeros(4).to(c), torch.ones(4).to(c), training=True))


REFUSED: dict[str, tuple[Step, str]] = {
    "tolist": (lambda m, h, w: m.head(_rows(h, torch.tensor(w.argmax(-1).tolist()))), "tolist"),
    "numpy": (
        lambda m, h, w: m.head(_rows(h, torch.from_numpy(w.detach().numpy().argmax(-1)))),
        "numpy",
    ),
    "array": (
        lambda m, h, w: m.head(_rows(h, torch.from_numpy(np.asarray(w.detach()).argmax(-1)))),
        "reads",
    ),
    "bool": (lambda m, h, w: m.head(context(h, w if (w.max() > 0.3) else 2 * w)), "reads"),
    "item": (lambda m, h, w: m.head(context(h, w) * w.max().item()), "reads"),
    "float": (lambda m, h, w: m.head(context(h, w) * float(w.max())), "reads"),
    "index": (lambda m, h, w: m.head(h[:, w[0].argmax()]), "reads"),
    "slice": (lambda m, h, w: m.head(h[:, : w[0].argmax() + 1].sum(1)), "reads"),
    "range": (
        lambda m, h, w: m.head(h[:, list(range(int(w[0].argmax()) + 1))].sum(1)),
        "reads",
    ),
    "equal": (lambda m, h, w: m.head(h[:, 0] if torch.equal(w, w * 1) else h[:, 1]), "reads"),
    "membership": (lambda m, h, w: m.head(h[:, int(0.5 in w)]), "reads"),
    "new from list": (
        lambda m, h, w: m.head(h[:, 0] * torch.tensor([w[0, 0].detach(), 1, 1, 1])),
        "reads",
    ),
    "legacy constructor": (
        lambda m, h, w: m.head(h[:, 0] * torch.Tensor([w[0, 0].detach(), 1, 1, 1])),
        "reads",
    ),
    "new_tensor": (lambda m, h, w: m.head(h[:, 0] * h.new_tensor([w[0, 0].detach()])), "reads"),
    "as_tensor": (
        lambda m, h, w: m.head(h[:, 0] * torch.as_tensor([w[0, 0].detach()] * 4)),
        "reads",
    ),
    "deepcopy": (
        lambda m, h, w: m.head(context(h, __import__("copy").deepcopy(w.detach()))),
        "reads",
    ),
    "dlpack": (
        lambda m, h, w: m.head(context(h, torch.from_dlpack(w.detach()))),
        "reads|not a tensor",
    ),
    "apply": (_apply, "reads"),
    "nonzero": (
        lambda m, h, w: m.head(_rows(h, (w == w.amax(-1, True)).nonzero()[:, 1][:3])),
        "nonzero",
    ),
    "masked_select": (lambda m, h, w: m.head(h[:, 0]) + w.masked_select(w > 0.1).sum(), "select"),
    "boolean index": (lambda m, h, w: m.head(h[:, 0]) + w[w > 0.1].sum(), "selects positions"),
    "boolean put": (
        lambda m, h, w: m.head(
            context(h, w.index_put([w > 0.1], w.new_zeros(()), accumulate=False))
        ),
        "selects positions",
    ),
    "unique": (lambda m, h, w: m.head(h[:, 0]) + w.unique().sum(), "reads"),
    "repeat": (
        lambda m, h, w: m.head(h[:, 0]) + h[0].repeat_interleave((w[0] > 0.1).long(), 0).sum(),
        "reads",
    ),
    "split at": (
        lambda m, h, w: m.head(h.tensor_split(w[0].argmax()[None], 1)[1].sum(1)),
        "tensor_split",
    ),
    "lengths": (_pack, "reads|lengths"),
    "dropout": (lambda m, h, w: m.head(context(h, F.dropout(w, 0.5, True))), "random"),
    "noise": (lambda m, h, w: m.head(context(h, w + torch.rand_like(w))), "random"),
    "independent noise": (lambda m, h, w: m.head(context(h, w)) + torch.randn(3).to(h), "random"),
    "format": (lambda m, h, w: m.head(context(h, w)) + 0 * len(f"{w.max():.2f}"), "reads"),
    "nested": (_nested, "Nested|NestedTensor"),
    "sparse": (lambda m, h, w: m.head(torch.sparse.mm(w.to_sparse(), h[0])), "."),
    "out=": (_out, "writes in a way"),
    "resize": (_resize, "writes in a way"),
    "set": (
        lambda m, h, w: m.head(h[:, 0].detach().clone().set_(context(h, w).detach())),
        "writes in a way",
    ),
    "running statistics": (_train_norm, "running statistics"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:Sparse:UserWarning", "ignore:.*sparse:UserWarning")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_refuses(name: str) -> None:
    function, reason = REFUSED[name]
    model = after(function)
    with torch.no_grad():
        expected = model(ids())
        recorded = []

        def forward(batch: Tensor) -> Tensor:
            recorded.append(model(batch))
            return recorded[0]

        torch.manual_seed(3)
        with pytest.raises(Unrecordable, match=reason):
            record(forward, ids())
    if name not in ("dropout", "noise", "independent noise"):
        torch.testing.assert_close(recorded[0], expected)  # the model itself went on undisturbed


def _cumulative(m: Any, h: Tensor, w: Tensor) -> Tensor:
    return m.head((w.cumsum(-1).unsqueeze(-1) * h).mean(1))


def _packed(m: Any, h: Tensor, w: Tensor) -> Tensor:
    packed = nn.utils.rnn.pack_padded_sequence(
        h * w[..., None], torch.tensor([6, 2, 4]), batch_first=True, enforce_sorted=False
    )
    out, (last, _) = m.rnn(packed)
    padded, _ = nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
    return m.head(last[0] + padded.sum(1))


def _bag(m: Any, h: Tensor, w: Tensor) -> Tensor:
    top = w.topk(2, -1).indices
    return m.head(F.embedding_bag(top, m.table.weight, mode="sum") + context(h, w))


def _complex(m: Any, h: Tensor, w: Tensor) -> Tensor:
    z = torch.fft.fft(w * 2)
    return m.head(context(h, (z * z.conj()).real + torch.view_as_real(z).sum(-1)))


def _unfolded(m: Any, h: Tensor, w: Tensor) -> Tensor:
    x = (h * w[..., None]).contiguous()
    windows = x.as_strided((3, 2, 4, 4), (24, 8, 4, 1), 0)[:, :, :3]
    return m.head(windows.sum((1, 2)))


def _half(m: Any, h: Tensor, w: Tensor) -> Tensor:
    c = context(h.bfloat16(), w.bfloat16())
    return m.head(c.double())


def _fused(m: Any, h: Tensor, w: Tensor) -> Tensor:
    q, k, v = (
        part.unflatten(-1, (2, 2)).transpose(1, 2) for part in m.qkv(h * w[..., None]).chunk(3, -1)
    )
    mask = (torch.arange(6) < torch.tensor([[6], [3], [5]]))[:, None, None]
    one = F.scaled_dot_product_attention(q, k, v, mask)
    two = F.scaled_dot_product_attention(q, k, v, torch.zeros(6, 6).to(h) - torch.eye(6).to(h))
    three = F.scaled_dot_product_attention(q, k, one, is_causal=True)
    constant = h.unflatten(-1, (2, 2)).transpose(1, 2)
    four = F.scaled_dot_product_attention(q, constant, constant)
    return m.head((one + two + three + four).transpose(1, 2).flatten(2).sum(1))


def _rope(m: Any, h: Tensor, w: Tensor) -> Tensor:
    z = torch.view_as_complex((h * w[..., None]).reshape(3, 6, 2, 2))
    turn = torch.polar(torch.ones(6, 1), torch.arange(6.0)[:, None]).to(z)
    return m.head(torch.view_as_real(z * turn).flatten(2).sum(1))


EQUAL: dict[str, tuple[Step, dict[str, Any], bool | None]] = {
    "bmm": (lambda m, h, w: m.head(context(h, w)), {}, True),
    "einsum": (lambda m, h, w: m.head(torch.einsum("bl,ble->be", w, h)), {}, True),
    "sum": (lambda m, h, w: m.head((w.unsqueeze(-1) * h).sum(1)), {}, True),
    "sum, values first": (
        lambda m, h, w: m.head((h * w[..., None]).sum(1, keepdim=True)[:, 0]),
        {},
        True,
    ),
    "sum, transposed": (lambda m, h, w: m.head((h.transpose(1, 2) * w[:, None]).sum(-1)), {}, True),
    "sum, expanded": (lambda m, h, w: m.head((w[..., None].expand_as(h) * h).sum(-2)), {}, True),
    "sum, terms used twice": (
        lambda m, h, w: (lambda x: m.head(x.sum(1) + x.amax(1)))(w[..., None] * h),
        {},
        True,
    ),
    "sum of all": (lambda m, h, w: m.head(h[:, 0]) + (w[..., None] * h).sum(), {}, True),
    "matrix times weights": (lambda m, h, w: m.head((h.mT @ w[..., None])[..., 0]), {}, True),
    "argmax": (lambda m, h, w: m.head(_rows(h, w.argmax(-1))), {}, None),
    "gather": (
        lambda m, h, w: m.head(h.gather(1, w.argmax(-1)[:, None, None].expand(-1, 1, 4))[:, 0]),
        {},
        None,
    ),
    "sort": (lambda m, h, w: m.head(context(h, w.sort(-1).values)), {}, None),
    "cumsum": (_cumulative, {}, True),
    "where": (lambda m, h, w: m.head(context(h, torch.where(w > 0.1, w, 0 * w))), {}, True),
    "constant mask": (lambda m, h, w: m.head(h[:, 0]) + w[:, h[0, :, 0] > 0].sum(), {}, None),
    "zeros_like": (lambda m, h, w: m.head(context(h, w + torch.zeros_like(w) + 1)), {}, True),
    "layer norm, gelu": (
        lambda m, h, w: m.head(m.norm(F.gelu(context(h, w)))),
        {"norm": lambda: nn.LayerNorm(4)},
        True,
    ),
    "convolution": (
        lambda m, h, w: m.head(m.conv((h * w[..., None]).mT).amax(-1)),
        {"conv": lambda: nn.Conv1d(4, 4, 3, padding=1)},
        None,
    ),
    "batch norm": (
        lambda m, h, w: m.head(m.norm(context(h, w))),
        {"norm": lambda: nn.BatchNorm1d(4)},
        None,
    ),
    "embedding bag": (_bag, {"table": lambda: nn.Embedding(6, 4)}, None),
    "packed lstm": (_packed, {"rnn": lambda: nn.LSTM(4, 4, batch_first=True)}, None),
    "gru": (
        lambda m, h, w: m.head(m.rnn(h * w[..., None])[1][0]),
        {"rnn": lambda: nn.GRU(4, 4, batch_first=True)},
        None,
    ),
    "complex": (_complex, {}, None),
    "rotary": (_rope, {}, None),
    "as_strided": (_unfolded, {}, True),
    "print": (lambda m, h, w: (str(w), m.head(context(h, w)))[1], {}, True),  # read by people
    "shapes": (lambda m, h, w: m.head(context(h, w)) * len(w) + w.stride(0), {}, True),
    "fused attention": (_fused, {"qkv": lambda: nn.Linear(4, 12)}, True),
    "fused attention of the weights alone": (
        lambda m, h, w: m.head(F.scaled_dot_product_attention(w[:, None, :4], h, h)[:, 0]),
        {},
        True,
    ),
    "detach": (lambda m, h, w: m.head(context(h, w.detach()) + context(h, w.data)), {}, True),
    "turned in place": (
        lambda m, h, w: m.head(torch.bmm((w * 1).unsqueeze_(1), (h * 1).transpose_(1, 1))[:, 0]),
        {},
        True,
    ),
    "stack": (
        lambda m, h, w: m.head(torch.stack([w[:, t, None] * h[:, t] for t in range(6)]).sum(0)),
        {},
        True,
    ),
    "cat": (
        lambda m, h, w: m.head(torch.cat([w[:, t, None] * h[:, t, :2] for t in (0, 3)], 1)),
        {},
        True,
    ),
}


@pytest.mark.parametrize("gradients", ["no_grad", "grad", "inference"])
@pytest.mark.parametrize("name", EQUAL)
def test_equals_whole_forwards(name: str, gradients: str) -> None:
    function, layers, batched = EQUAL[name]
    model = after(function, **layers)
    modes = {
        "no_grad": torch.no_grad,
        "grad": torch.enable_grad,
        "inference": torch.inference_mode,
    }
    with modes[gradients]():
        program = assert_same_as_whole(model, ids(), batched=batched)
    assert program.depends
    assert program.unused == ()
    assert program.inputs == ("a0",)


def test_half_precision() -> None:
    with torch.no_grad():
        assert_same_as_whole(after(_half), ids(), tolerance=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_models_of_other_dtypes(dtype: torch.dtype) -> None:
    model = Encoder().to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    with torch.no_grad():
        assert_same_as_whole(model, ids(), at=("a0",), tolerance=tolerance)


def test_autocast_is_recorded() -> None:
    model = Encoder().float()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        program = assert_same_as_whole(model, ids(), at=("a1",), tolerance=3e-2)
    weights = {"a1": torch.rand(3, 3, 2, 6, 6)}
    with torch.no_grad():
        outside = program(weights)
        with torch.autocast("cpu", dtype=torch.float16):
            assert torch.equal(program(weights), outside)


def test_a_matrix_of_lengths_one() -> None:
    model = Attender()
    with torch.no_grad():
        assert_same_as_whole(model, ids(1))
        assert_same_as_whole(model, ids()[:, :1])


@pytest.mark.parametrize("at", ["a0", "a1"])
def test_layers_of_a_transformer(at: str) -> None:
    with torch.no_grad():
        assert_same_as_whole(Encoder(), ids(), at=(at,), batched=True)


def test_two_sites_are_independent_inputs() -> None:
    with torch.no_grad():
        program = assert_same_as_whole(TwoSites(), ids(), batched=True)
        assert program.inputs == ("a0", "a1")
        # Marked alone, the first moves the second as it does in the model.
        assert_same_as_whole(TwoSites(), ids(), at=("a0",), batched=True)
        assert_same_as_whole(TwoSites(), ids(), at=("a1",), batched=True)


def test_every_layer_marked() -> None:
    with torch.no_grad():
        program = assert_same_as_whole(Encoder(), ids())
    # The last layer's weights replace what the first layer would have made of them, and its
    # values still come from the first.
    assert program.unused == ()


def test_a_site_without_effect_is_named() -> None:
    model = after(lambda m, h, w: m.head(h[:, 0]) + 0 * len(w))
    with torch.no_grad():
        program = record(model, ids())
        assert program.unused == ("a0",)
        assert not program.depends
        expected = model(ids())
        assert torch.equal(
            program({"a0": torch.rand(4, 3, 6)}), expected.expand(4, *expected.shape)
        )
