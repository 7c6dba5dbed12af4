"""Removal curves beside the forward passes that they need.

Those passes are of the texts as they are after each removal, made in advance,
sorted by length and padded to large batches: nothing is edited, kept or read
off. A model that feels padding needs its texts by length, without any. Every
position is a point of the curves.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from faithattn import AttentionView, adapt, removal_curves
from faithattn.importance.leave_one_out import Removal
from faithattn.interventions.tokens import mask_token
from tests.benchmarks import data, models
from tests.benchmarks.timing import Row, compared

_ROWS = 128
_GOAL = 1.3
_WORD = 4  # some word: what stands in the place of another does not matter here


def rows(smoke: bool) -> Iterator[Row | str]:
    """The published models, a plain BiLSTM, and a transformer."""
    repeats = 1 if smoke else 5
    batches = data.sst_like(20)[:1] if smoke else data.sst_like(20)[7:15:6]
    removals: tuple[Removal, ...] = ("delete", mask_token(_WORD), "zero_embedding")
    for encoder in ("bilstm",) if smoke else ("bilstm", "cnn", "average"):
        model = data.classifier(encoder, small=smoke)
        for removal in removals:
            yield _row(f"published {encoder}", model, model, batches, removal, repeats)
    size = (2, 8) if smoke else (32, 25)
    for case, feels in ((models.encoder(*size), False), (models.additive("mul-sum", *size), True)):
        adapted = adapt(case.model, mask=0)
        view = None if feels else AttentionView(case.sites[-1], query=0)
        yield _row(case.sized, adapted, case.model, [case.inputs], "delete", repeats, view, feels)
    if models.HAS_TRANSFORMERS and not smoke:
        yield from _transformer(repeats)


def _transformer(repeats: int) -> Iterator[Row]:
    """A small random BERT, by the ids and by deletion."""
    model, inputs = small_bert()
    adapted = adapt(model)
    view = AttentionView("bert.encoder.layer.1.attention.self", query=0)
    for removal in ("delete", mask_token(_WORD)):
        yield _row("small BERT, 32 x 24", adapted, model, [inputs], removal, repeats, view)
    case = models.bert("sdpa", 8, 16)
    view = AttentionView(case.sites[-1], query=0)
    yield _row(case.sized, adapt(case.model), case.model, [case.inputs], "delete", 2, view)


def small_bert() -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """Two layers with random weights, and a batch of 32 texts of up to 24 tokens."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=2000,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=512,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.BertForSequenceClassification(config).eval()
    ids = models.texts(32, 24) % 1999
    return model, {"input_ids": ids, "attention_mask": (ids != 0).long()}


def _row(
    name: str,
    adapter: Any,
    model: torch.nn.Module,
    batches: list[Any],
    removal: Removal,
    repeats: int,
    view: AttentionView | None = None,
    feels: bool = False,
) -> Row:
    ready = [each for inputs in batches for each in _texts(adapter, inputs, removal)]
    forwards = batched(ready, isinstance(batches[0], dict), by_length=feels)

    def ours() -> None:
        for inputs in batches:
            removal_curves(adapter, inputs, removal=removal, view=view)

    return compared(
        f"removal_curves, {removal}, {name}",
        ours,
        lambda: run(model, forwards),
        repeats,
        "bare forwards",
        _GOAL,
        unit="bare",
    )


def _texts(adapter: Any, inputs: Any, removal: Removal) -> Iterator[Tensor]:
    """Every text that the curves run: whole, and without or with the first positions alone.

    Which positions are the first takes no time, and does not matter here.
    """
    ids = inputs["input_ids"] if isinstance(inputs, dict) else inputs
    delete = removal == "delete"
    for row in ids:
        text = row[row != 0]
        words = _words(adapter, text)
        yield text
        for side in range(2):
            for count in range(1, len(words) + (side == 0 and not delete)):
                gone = words[:count] if side == 0 else words[count:]
                yield _edited(text, gone, delete)


def singles(adapter: Any, ids: Tensor) -> list[Tensor]:
    """Every text of ids without each of its words."""
    texts = [row[row != 0] for row in ids]
    return [
        _edited(text, word[None], True)
        for text in texts
        for word in _words(adapter, text)
        if len(text) > 1
    ]


def _words(adapter: Any, text: Tensor) -> Tensor:
    """What can be explained: special tokens of the published models cannot."""
    published = isinstance(adapter, data.TextClassifier)
    return (text > 3).nonzero()[:, 0] if published else torch.arange(len(text))


def _edited(text: Tensor, gone: Tensor, delete: bool) -> Tensor:
    if not delete:
        return text  # what is in it takes no time
    keep = torch.ones(len(text), dtype=torch.bool)
    keep[gone] = False
    return text[keep]


def batched(texts: list[Tensor], named: bool, by_length: bool) -> list[Any]:
    """Texts by length in large batches, as the model takes them."""
    texts = sorted(texts, key=len)
    groups = [list(each) for _, each in itertools.groupby(texts, len)] if by_length else [texts]
    made = []
    for group in groups:
        for start in range(0, len(group), _ROWS):
            ids = torch.nn.utils.rnn.pad_sequence(group[start : start + _ROWS], batch_first=True)
            made.append({"input_ids": ids, "attention_mask": (ids != 0).long()} if named else ids)
    return made


def run(model: Callable[..., Any], forwards: list[Any]) -> None:
    with torch.no_grad():
        for inputs in forwards:
            if isinstance(inputs, dict):
                model(**inputs)
            else:
                model(inputs)
