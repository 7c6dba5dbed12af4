"""A small transformer learns to answer questions; the four tests are put to each of its heads.

Run with ``python examples/transformer_on_babi.py --out DIRECTORY``: a few
minutes on one core. The stories are generated ("mary went to the office .
john ... where is mary ?"), so it is known which sentence holds the answer, and
attention can be held against that too. docs/transformers.md shows the result.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from faithattn import (
    AttentionView,
    TorchAdapter,
    adapt,
    adversarial_attention,
    gradient_correlation,
    loo_correlation,
    permutation_test,
)
from faithattn.paper.data.babi import generate_babi
from faithattn.paper.data.examples import Example
from faithattn.paper.data.ids import END, PADDING
from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.statistics import Statistics, describe

LAYERS, HEADS, WIDTH = 2, 4, 64
# "<s> where is MARY ? </s> mary went ...": the answer is read where the person is named.
ASKED, STORY = 3, 6
SEARCHED = 25  # the adversaries cost more than all the rest: only these stories get them
COLUMNS = (
    "tau gradient",  # mean over the stories
    "tau LOO",
    "median TVD",
    "eps-max JSD",
    "no adversary",  # share of the stories where the search found nothing within epsilon
    "weight on story",
    "weight on evidence",  # of the weight on the story
    "precision@1",  # share of the stories whose word with most weight is evidence
)


class Answerer(nn.Module):
    """A transformer encoder; instead of its place, a word tells how many sentences end after it."""

    def __init__(self, n_words: int, n_answers: int, stop: int) -> None:
        super().__init__()
        self.words = nn.Embedding(n_words, WIDTH, padding_idx=PADDING)
        self.recency = nn.Embedding(16, WIDTH)
        for embedding in (self.words, self.recency):
            nn.init.normal_(embedding.weight, std=0.5)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 2 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(WIDTH)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, norm, enable_nested_tensor=False)
        for layer in self.encoder.layers:  # at first, a word attends to its like
            query, key, _ = layer.self_attn.in_proj_weight.data.chunk(3)
            key.copy_(query)
        self.answer = nn.Linear(WIDTH, n_answers)
        self.stop = stop

    def forward(self, ids: Tensor) -> Tensor:
        sentences = (ids == self.stop).flip(1).cumsum(1).flip(1)
        states = self.words(ids) + self.recency(sentences * in_story(ids))
        states = self.encoder(states, src_key_padding_mask=ids == PADDING)
        return self.answer(states[:, ASKED])


def in_story(ids: Tensor) -> Tensor:
    """The words of the story: what may explain an answer."""
    return (ids > END) & (torch.arange(ids.shape[1]) >= STORY)


def encode(examples: Sequence[Example], vocabulary: Vocabulary) -> tuple[Tensor, Tensor, Tensor]:
    """Question and story as ids, the words that hold the answer, and the answers."""
    rows = [
        torch.tensor(vocabulary.encode(each.question) + vocabulary.encode(each.tokens)[1:])
        for each in examples
    ]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING)
    evidence = torch.zeros(ids.shape, dtype=torch.bool)
    for row, each in enumerate(examples):
        evidence[row, [STORY + position for position in each.evidence]] = True
    return ids, evidence, torch.tensor([each.label for each in examples])


def train(model: Answerer, ids: Tensor, answers: Tensor, steps: int) -> None:
    """Stories of two sentences at first, longer ones when these are understood."""
    sentences = (ids == model.stop).sum(1)
    order = sentences.argsort()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-3, total_steps=steps, pct_start=0.05, cycle_momentum=False
    )
    longest, average = 2, 1.0
    for step in range(steps):
        rows = order[torch.randint(int((sentences <= longest).sum()), (64,))]
        length = int((ids[rows] != PADDING).sum(1).max())
        loss = nn.functional.cross_entropy(model(ids[rows, :length]), answers[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average += 0.05 * (loss.item() - average)
        if (step + 1) % max(1, steps // 8) == 0:
            print(f"step {step + 1}: loss {average:.3f}, up to {longest} sentences", flush=True)
        if average < 0.25 and longest < 10:
            longest, average = longest + 2, 1.0


@torch.no_grad()
def accuracy(model: Answerer, ids: Tensor, answers: Tensor) -> float:
    model.eval()
    found = torch.cat([model(part).argmax(-1) for part in ids.split(100)])
    return (found == answers).float().mean().item()


def audit(
    adapter: TorchAdapter, ids: Tensor, evidence: Tensor, view: AttentionView, steps: int
) -> list[Statistics]:
    """The columns of one view, summed up over the stories."""
    gradient = gradient_correlation(adapter, ids, view=view)
    loo = loo_correlation(adapter, ids, view=view)
    shuffled = permutation_test(adapter, ids, view=view, seed=0)
    other = adversarial_attention(
        adapter,
        ids[:SEARCHED],
        epsilon=0.05,
        n_adversaries=2,
        method="published",
        n_steps=steps,
        seed=0,
        view=view,
    )
    weights = gradient.explanation
    values = (
        gradient.statistic,
        loo.statistic,
        shuffled.median_tvd,
        other.max_jsd,
        1 - other.feasible.any(1).double(),
        gradient.mass,
        (weights * evidence).sum(1) / weights.sum(1),
        evidence.gather(1, weights.argmax(1, keepdim=True))[:, 0].double(),
    )
    return [describe(column.double().numpy()) for column in values]


def views() -> dict[str, AttentionView]:
    """Each head and layer in the row that is read, and what the other rows add."""
    found = {}
    for layer in range(LAYERS):
        for head in range(HEADS):
            name = f"layer {layer} head {head}"
            found[name] = AttentionView(layer, heads=head, query=ASKED)
        found[f"layer {layer}"] = AttentionView(layer, query=ASKED)
    found["both layers"] = AttentionView(None, query=ASKED)
    found["layer 0, every row"] = AttentionView(0)
    found["both layers, every row"] = AttentionView(None)
    return found


def draw(table: dict[str, list[Statistics]], path: Path) -> None:
    """One map a column, a cell for each layer and head; 0 is white and 1 dark in all of them."""
    heads = [row for name, row in table.items() if "head" in name]
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    for column, axes in enumerate(figure.subplots(2, len(COLUMNS) // 2).flat):
        cells = np.array([row[column].mean for row in heads]).reshape(LAYERS, HEADS)
        axes.imshow(cells, cmap="Blues", vmin=0, vmax=1)
        axes.set(title=COLUMNS[column], xticks=range(HEADS), yticks=range(LAYERS))
        axes.label_outer()
        for (layer, head), mean in np.ndenumerate(cells):
            colour = "white" if mean > 0.5 else "black"
            axes.text(head, layer, f"{mean:.2f}", ha="center", va="center", color=colour)
    figure.supxlabel("head")
    figure.supylabel("layer")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the figure")
    parser.add_argument("--stories", type=int, default=100, help="stories to audit")
    parser.add_argument("--steps", type=int, default=1000, help="steps of training")
    parser.add_argument("--search", type=int, default=200, help="steps of the adversarial search")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, learns nothing")
    options = parser.parse_args()
    if options.smoke:
        options.stories, options.steps, options.search = 3, 8, 2

    torch.manual_seed(0)
    data = generate_babi(1, n_train=20 * options.steps, n_test=max(500, options.stories))
    vocabulary = Vocabulary.build(each.tokens + each.question for each in data.train)
    (stop,) = vocabulary.encode(["."])[1:-1]
    model = Answerer(len(vocabulary), len(data.labels), stop)
    ids, _, answers = encode(data.train, vocabulary)
    train(model, ids, answers, options.steps)
    ids, evidence, answers = encode(data.test, vocabulary)
    print(f"test accuracy {accuracy(model, ids, answers):.3f}, {len(ids)} stories", flush=True)

    ids, evidence = ids[: options.stories], evidence[: options.stories]
    adapter = adapt(model, mask=in_story, embedding="words")
    print("| " + " | ".join(("row of the word asked for", *COLUMNS)) + " |")
    print("|---" * (1 + len(COLUMNS)) + "|")
    table: dict[str, list[Statistics]] = {}
    for name, view in views().items():
        row = table[name] = audit(adapter, ids, evidence, view, options.search)
        cells = (f"{each.mean:.3f} [{each.low:.3f}, {each.high:.3f}]" for each in row)
        print("| " + " | ".join((name, *cells)) + " |", flush=True)
    blind = evidence.sum(1) / in_story(ids).sum(1)
    print(f"evidence is {blind.mean().item():.3f} of the words of a story")
    options.out.mkdir(parents=True, exist_ok=True)
    draw(table, options.out / "transformer_heads.png")


if __name__ == "__main__":
    main()
