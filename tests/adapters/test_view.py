"""AttentionView: what it says, and which sites of a model it means."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from faithattn import AdapterError, AttentionView
from faithattn.adapters.roles import is_cross, listing, resolve_view

B, H, Q, L = 3, 2, 5, 7


def sites(*names_and_shapes: Any) -> dict[str, Tensor]:
    """Sites by name, each followed by its shape without the batch."""
    pairs = zip(names_and_shapes[::2], names_and_shapes[1::2], strict=True)
    return {name: torch.empty(B, *shape) for name, shape in pairs}


SQUARE, OBLONG, DECODER = (H, L, L), (H, Q, L), (H, Q, Q)
POOLED = sites("attention", (L,))
ENCODER = {f"encoder.layer.{n}.attention.self": torch.empty(B, *SQUARE) for n in range(12)}
LAYERED = {f"layers.{n}": torch.empty(B, *SQUARE) for n in range(3)}
BART = sites(
    "encoder.layers.0.self_attn", SQUARE,
    "encoder.layers.1.self_attn", SQUARE,
    "decoder.layers.0.self_attn", DECODER,
    "decoder.layers.0.encoder_attn", OBLONG,
    "decoder.layers.1.self_attn", DECODER,
    "decoder.layers.1.encoder_attn", OBLONG,
)  # fmt: skip
# Source and target happen to be as long.
TORCH = sites(
    "encoder.layers.0.self_attn", SQUARE,
    "decoder.layers.0.self_attn", SQUARE,
    "decoder.layers.0.multihead_attn", SQUARE,
)  # fmt: skip
T5 = sites(
    "decoder.block.0.layer.0.SelfAttention", SQUARE,
    "decoder.block.0.layer.1.EncDecAttention", SQUARE,
)  # fmt: skip
SHARED = {name: torch.empty(B, *SQUARE) for name in ("attention", "attention#1", "attention#2")}
STEPS = {name: torch.empty(B, L) for name in ("attend", "attend#1", "attend#2")}
PERCEIVER = sites("cross", (H, Q, L), "latents.0", DECODER, "latents.1", DECODER)
# Block-sparse attention: calls on the first and the last few queries, the others have fewer keys.
BLOCKS = {f"layers.{n}.self{call}": torch.empty(B, H, 3, L) for n in (0, 1) for call in ("", "#4")}
UNEVEN = sites("a", (H, 5, L), "a#1", (H, 2, L))
# One module at every layer, with a learned key, or asked for one query at a time.
SHARED_KEY = {name: torch.empty(B, H, L, L + 1) for name in ("attention", "attention#1")}
SINGLE = {name: torch.empty(B, H, 1, L) for name in ("self_attn", "self_attn#1")}
WITH_POOLING = {**LAYERED, "pool": torch.empty(B, L)}
LEARNED_KEY = {f"layers.{n}": torch.empty(B, H, L, L + 1) for n in range(2)}

CHOSEN: dict[str, tuple[dict[str, Tensor], AttentionView | None, list[str], str]] = {
    "no view": (POOLED, None, ["attention"], "attention"),
    "only": (POOLED, AttentionView.only(), ["attention"], "attention"),
    "name": (LAYERED, AttentionView("layers.1", 0), ["layers.1"], "layers.1, head 0"),
    "number": (LAYERED, AttentionView(2, query=0), ["layers.2"], "layers.2, query 0"),
    "number from the end": (LAYERED, AttentionView(-3), ["layers.0"], "layers.0"),
    "names and numbers": (
        LAYERED, AttentionView(["layers.2", 0]), ["layers.2", "layers.0"], "layers.2 and layers.0",
    ),
    "every site": (
        LAYERED, AttentionView(None, query="last"), list(LAYERED),
        "layers.0 and layers.1 and layers.2, last query",
    ),
    "many": (
        ENCODER, AttentionView.mean(), list(ENCODER),
        "12 sites, encoder.layer.0.attention.self ... encoder.layer.11.attention.self",
    ),
    "first token": (
        ENCODER, AttentionView.cls(), ["encoder.layer.11.attention.self"],
        "encoder.layer.11.attention.self, query 0",
    ),
    "first token, head": (
        ENCODER, AttentionView.cls(3, heads=1), ["encoder.layer.3.attention.self"],
        "encoder.layer.3.attention.self, head 1, query 0",
    ),
    "pooling is no layer": (WITH_POOLING, AttentionView.cls(), ["layers.2"], "layers.2, query 0"),
    "shared layers": (SHARED, AttentionView.cls(1), ["attention#1"], "attention#1, query 0"),
    "shared layers, learned key": (
        SHARED_KEY, AttentionView.cls(), ["attention#1"], "attention#1, query 0",
    ),
    "one query at a time": (
        SINGLE, AttentionView.last_query(), ["self_attn#1"], "self_attn#1, last query",
    ),
    "a named block": (
        BLOCKS, AttentionView("layers.1.self", query=0), ["layers.1.self"], "layers.1.self, query 0"
    ),
    "learned key": (
        LEARNED_KEY, AttentionView.last_query(), ["layers.1"], "layers.1, last query",
    ),
    "self of two": (
        BART, AttentionView.last_query(), ["decoder.layers.1.self_attn"],
        "decoder.layers.1.self_attn, last query",
    ),
    "self of the encoder": (
        BART, AttentionView.cls(1), ["encoder.layers.1.self_attn"],
        "encoder.layers.1.self_attn, query 0",
    ),
    "cross": (
        BART, AttentionView.cross(), ["decoder.layers.1.encoder_attn"],
        "decoder.layers.1.encoder_attn, query -1",
    ),
    "cross, first layer and step": (
        BART, AttentionView.cross(0, 0, heads=1), ["decoder.layers.0.encoder_attn"],
        "decoder.layers.0.encoder_attn, head 1, query 0",
    ),
    "cross of nn.Transformer": (
        TORCH, AttentionView.cross(), ["decoder.layers.0.multihead_attn"],
        "decoder.layers.0.multihead_attn, query -1",
    ),
    "self of nn.Transformer": (
        TORCH, AttentionView.last_query(), ["decoder.layers.0.self_attn"],
        "decoder.layers.0.self_attn, last query",
    ),
    "cross of T5": (
        T5, AttentionView.cross(step=2), ["decoder.block.0.layer.1.EncDecAttention"],
        "decoder.block.0.layer.1.EncDecAttention, query 2",
    ),
    "cross of latents": (PERCEIVER, AttentionView.cross(), ["cross"], "cross, query -1"),
    "latents": (PERCEIVER, AttentionView.cls(0), ["latents.0"], "latents.0, query 0"),
    "step by step": (STEPS, AttentionView.cross(), ["attend#2"], "attend, query -1"),
    "first step": (STEPS, AttentionView.cross(step=0), ["attend"], "attend, query 0"),
    "one step": (POOLED, AttentionView.cross(), ["attention"], "attention, query -1"),
}  # fmt: skip


@pytest.mark.parametrize(("attention", "view", "names", "text"), CHOSEN.values(), ids=CHOSEN)
def test_which_sites_are_meant(
    attention: dict[str, Tensor], view: AttentionView | None, names: list[str], text: str
) -> None:
    found, resolved = resolve_view(attention, view)
    assert list(found) == names
    assert str(resolved) == text
    given = AttentionView.only() if view is None else view
    assert (resolved.heads, resolved.feature) == (given.heads, given.feature)


CROSS = {
    "decoder.layers.0.encoder_attn": True,
    "decoder.layer.0.crossattention.self": True,
    "h.3.crossattention": True,
    "decoder.block.0.layer.1.EncDecAttention": True,
    "blocks.0.cross_attn": True,
    "blocks.0.attn_cross": True,
    "decoders.0.src_attn": True,
    "layers.0.xattn": True,
    "layers.0.cross": True,
    "cross_encoder.layers.0.attention": False,
    "crossformer.layers.0.attention": False,
    "max_attn": False,
    "decoder.layers.0.self_attn": False,
    "crossmodal.x_layers.0.lang_self_att.self": False,
    "decoder.cross.0.self_attn": False,
    "layers.0.multihead_attn": False,
    "attention": False,
}


@pytest.mark.parametrize("name", CROSS)
def test_cross_attention_is_told_by_its_name(name: str) -> None:
    assert is_cross(name, sites(name, SQUARE)) is CROSS[name]
    assert is_cross(f"{name}#2", sites(f"{name}#2", SQUARE)) is CROSS[name]


def test_cross_attention_is_told_by_its_shape() -> None:
    assert is_cross("attn", sites("attn", OBLONG))
    assert is_cross("attn", sites("attn", (Q, L)))
    assert is_cross("attn", sites("attn", (L,)))
    assert not is_cross("self_attn", sites("self_attn", (H, 1, L)))  # one step with a cache
    assert not is_cross("attn", sites("attn", (L, L)))


@pytest.mark.parametrize(
    ("view", "text"),
    [
        (AttentionView("a"), "a"),
        (AttentionView("a", heads=2), "a, head 2"),
        (AttentionView("a", heads=[1, -1], query=-1), "a, heads 1 and -1, query -1"),
        (AttentionView("a", query=torch.tensor([1, 2])), "a, one query per instance"),
        (AttentionView("a", query="last", feature="x"), "a, last query, feature x"),
        (AttentionView(-1), "site -1"),
        (AttentionView(["a", "b", 2]), "a and b and site 2"),
        (AttentionView(["a", "b", "c", "d"], heads=0), "4 sites, a ... d, head 0"),
        (AttentionView(None), "every site"),
        (AttentionView.only(), "the only row"),
        (AttentionView.mean(), "every site"),
        (AttentionView.cls(2), "layer 2 of self attention, query 0"),
        (AttentionView.last_query(heads=(0, 1)), "layer -1 of self attention, heads 0 and 1, las"),
        (AttentionView.cross(0, 4), "layer 0 of cross attention, step 4"),
    ],
)
def test_a_view_says_what_it_shows(view: AttentionView, text: str) -> None:
    assert str(view).startswith(text) and len(str(view)) < len(text) + 10


def test_names_are_known_before_the_model_runs() -> None:
    assert AttentionView("a").names == ("a",)
    assert AttentionView(["a", "b"]).names == ("a", "b")
    for view in (AttentionView(0), AttentionView(["a", 1]), AttentionView(None)):
        assert view.names is None
    for view in (AttentionView.cls(), AttentionView.cross(), AttentionView.only()):
        assert view.names is None


def test_no_heads_at_all() -> None:
    for none in ((), [], range(0)):
        with pytest.raises(
            ValueError, match=r"heads must name at least one head; got .* Leave it "
        ):
            AttentionView("a", heads=none)
    assert AttentionView("a", heads=range(2)).heads == range(2)


def test_views_compare_and_hash() -> None:
    assert AttentionView(["a", "b"]) == AttentionView(("a", "b"))
    assert len({AttentionView.cls(), AttentionView.cls(-1), AttentionView.last_query()}) == 2
    assert hash(AttentionView(["a", "b"])) == hash(AttentionView(("a", "b")))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AttentionView(1.5), "site must be a name, a number, several .*; got 1.5"),
        (lambda: AttentionView(True), "site must be a name, a number, .*; got True"),
        (lambda: AttentionView(torch.tensor(1)), "site must be a name, a number"),
        (lambda: AttentionView([]), r"site must be a name, .*; got \[\]. Take names from"),
        (lambda: AttentionView(["a", None]), "site must be a name"),
        (lambda: AttentionView("a", heads="0"), "heads must be an int, several, or None"),
        (lambda: AttentionView("a", heads=0.5), "heads must be an int"),
        (lambda: AttentionView("a", query="first"), "query must be an int, 'last', a tensor with"),
        (lambda: AttentionView("a", query=[0]), r"query must be an int, .*; got \[0\]"),
        (lambda: AttentionView.cls("last"), "layer must be an int; got 'last'"),
        (lambda: AttentionView.cross(step=None), "step must be an int; got None"),
    ],
)
def test_what_is_no_view(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


TWO_INPUTS = sites("question", (L,), "passage", (L + 2,))
REFUSED: dict[str, tuple[dict[str, Tensor], Any, type[Exception], str]] = {
    "several heads": (
        sites("a", SQUARE), None, AdapterError,
        r"view must say which attention rows are the explanation; the model has 'a' \(3, 2, 7, 7\)"
        r"\. Choose with view=AttentionView\('a', heads=None, query=0\), or a ready-made one: "
        r"AttentionView\.cls\(\), AttentionView\.last_query\(\), AttentionView\.mean\(\)\.",
    ),
    "several rows": (
        sites("a", (Q, L)), AttentionView.only(), AdapterError,
        r"AttentionView\('a', heads=None, query=0\), or .*: AttentionView.cross\(\), "
        r"AttentionView.mean\(\)\.$",
    ),
    "two inputs": (
        TWO_INPUTS, None, AdapterError,
        r"the model has 'question' \(3, 7\), 'passage' \(3, 9\)\. "
        r"Choose with view=AttentionView\('question'\)\.$",
    ),
    "many sites": (
        {**ENCODER, **BART}, None, AdapterError,
        r"'encoder.layer.5.attention.self' \(3, 2, 7, 7\), \.\.\. 6 more \.\.\., "
        r"'encoder.layers.0.self_attn'",
    ),
    "unknown name": (
        LAYERED, AttentionView("layers.9"), AdapterError,
        r"view must name a site of the model; got 'layers.9', and the sites are 'layers.0' \(3",
    ),
    "unknown number": (
        LAYERED, AttentionView(3), ValueError, r"view.site must lie in 0..2 of the model; got 3",
    ),
    "twice": (
        LAYERED, AttentionView(["layers.1", 1]), ValueError, "must name each site once; got",
    ),
    "shapes": (
        BART, AttentionView.mean(), AdapterError,
        r"view must choose sites of one shape; got 'encoder.* Choose with view=AttentionView\("
        r"\['encoder.layers.0.self_attn', 'encoder.layers.1.self_attn'\]\)\.",
    ),
    "two shapes": (
        TWO_INPUTS, AttentionView.mean(), AdapterError, r"view=AttentionView\('question'\)\.",
    ),
    "many of a shape": (
        {**ENCODER, "extra": torch.empty(B, L), "encoder.last": torch.empty(B, *SQUARE)},
        AttentionView.mean(), AdapterError,
        r"AttentionView\(\['encoder.layer.0.attention.self', ..., 'encoder.last'\]\)",
    ),
    "no such layer": (
        BART, AttentionView.cls(4), ValueError, r"view.layer must lie in 0..3 of self attention; g",
    ),
    "no such cross layer": (
        BART, AttentionView.cross(-3), ValueError, r"must lie in 0..1 of cross attention; got -3",
    ),
    "no such step": (
        STEPS, AttentionView.cross(step=3), ValueError,
        r"view.step must lie in 0..2 of the calls of 'attend'; got 3",
    ),
    "no cross attention": (
        LAYERED, AttentionView.cross(), AdapterError,
        r"model must have cross attention, .*; got 'layers.0' \(3, 2, 7, 7\), .* Choose with view=",
    ),
    "first token of blocks": (
        BLOCKS, AttentionView.cls(), AdapterError,
        r"view must choose a layer of self attention that has all its queries in one site; got "
        r"'layers.1.self' \(3, 2, 3, 7\), 'layers.1.self#4' \(3, 2, 3, 7\), whose numbers of "
        r"queries are different .* a site: view=AttentionView\('layers.1.self', query=0\)\.$",
    ),
    "last token of blocks": (
        BLOCKS, AttentionView.last_query(0), AdapterError, "has all its queries in one site; got",
    ),
    "uneven blocks": (
        UNEVEN, AttentionView.cls(0), AdapterError, r"got 'a' \(3, 2, 5, 7\), 'a#1' \(3, 2, 2, 7\)",
    ),
    "no view": (
        LAYERED, "layers.0", TypeError, "view must be an AttentionView or None; got str. Use view",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("attention", "view", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(
    attention: dict[str, Tensor], view: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        resolve_view(attention, view)


def test_long_lists_are_shortened() -> None:
    assert listing(ENCODER).count("(3, 2, 7, 7)") == 12 and "more" not in listing(ENCODER)
    many = {f"layers.{n}": torch.empty(B, L) for n in range(100)}
    assert listing(many).count("(3, 7)") == 12 and "... 88 more ..." in listing(many)
