"""Fine-tunes a BERT-like encoder on your texts and asks what its CLS attention explains.

    python examples/minilm_on_your_texts.py --data reviews.csv --weights DIRECTORY --out DIRECTORY

``reviews.csv`` has the columns text, label and split (train, dev, test);
``--data babi-1`` generates questions over stories instead. ``--weights`` is a
folder with a BERT-like model and its tokenizer, such as all-MiniLM-L6-v2;
``--epochs 0`` audits one that is fine-tuned already. docs/transformers.md
explains the tables.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from faithattn import (
    AdversarialResult,
    AttentionView,
    Correlation,
    PermutationResult,
    TorchAdapter,
    adapt,
    adversarial_attention,
    gradient_correlation,
    loo_correlation,
    permutation_test,
    rank_correlation,
    word_groups,
)
from faithattn.paper.data.babi import generate_babi
from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.readers import read_texts
from faithattn.statistics import describe

EPSILON = 0.01
EVERY = 5  # searches and heads cost more than all the rest: every fifth batch gets them
LOO_TIES = ("auto", 5e-7)  # float noise of leave-one-out, in units of the output
Encoder = Callable[[Sequence[Example]], Any]
Batches = list[tuple[Any, Tensor]]  # what the tokenizer returns, and the ids of its texts
Result = TypeVar("Result", Correlation, PermutationResult, AdversarialResult)


def encoder(tokenizer: Any, length: int) -> Encoder:
    """A function from examples to the model's inputs: a text, or a question and its story."""

    def encode(examples: Sequence[Example]) -> Any:
        texts = [" ".join(each.tokens) for each in examples]
        questions = [" ".join(each.question) for each in examples]
        columns = (questions, texts) if questions[0] else (texts,)
        options = {"padding": True, "truncation": True, "return_tensors": "pt"}
        return tokenizer(*columns, max_length=length, **options)

    return encode


def in_batches(examples: Sequence[Example], size: int) -> Iterator[list[Example]]:
    """Texts of similar length together, in windows that keep the order random."""
    for start in range(0, len(examples), 32 * size):
        window = sorted(examples[start : start + 32 * size], key=lambda each: len(each.tokens))
        yield from (window[first : first + size] for first in range(0, len(window), size))


def fine_tune(model: nn.Module, encode: Encoder, data: Dataset, epochs: int) -> None:
    examples, done = list(data.train), 0
    total = epochs * len(list(in_batches(examples, 32)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 4e-5, total_steps=total, pct_start=0.1, anneal_strategy="linear"
    )
    for epoch in range(epochs):
        model.train()
        random.shuffle(examples)
        for batch in in_batches(examples, 32):
            labels = torch.tensor([each.label for each in batch])
            loss = nn.functional.cross_entropy(model(**encode(batch)).logits, labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            done += 1
            if done % 50 == 0:
                print(f"step {done} of {total}: loss {loss.item():.3f}", flush=True)
        print(f"epoch {epoch + 1}: dev accuracy {accuracy(model, encode, data.dev):.3f}")


@torch.no_grad()
def accuracy(model: nn.Module, encode: Encoder, examples: Sequence[Example]) -> float:
    model.eval()
    right = 0
    for batch in in_batches(examples, 32):
        labels = torch.tensor([each.label for each in batch])
        right += int((model(**encode(batch)).logits.argmax(-1) == labels).sum())
    return right / len(examples)


def story_words(inputs: Any) -> Tensor:
    """What may explain an answer: the second text of a pair, without the separator."""
    second = inputs["token_type_ids"] == 1
    return second & second.roll(-1, 1)  # its last token is the separator


def over(
    batches: Batches, test: Callable[..., Result], adapter: TorchAdapter, **options: Any
) -> Result:
    """One test of every text, as one result."""
    results = []
    for inputs, ids in batches:
        draws = {"instances": ids} if "seed" in options else {}  # each text has draws of its own
        results.append(test(adapter, inputs, **options, **draws))
    return type(results[0]).concatenate(results)


def audit_view(
    adapter: TorchAdapter,
    batches: Batches,
    view: AttentionView,
    loo: Correlation,
    evidence: Tensor,
    options: argparse.Namespace,
) -> dict[str, Tensor]:
    """The four tests of one view, one value a text."""
    gradient = over(batches, gradient_correlation, adapter, view=view)
    shuffles = {"seed": 0, "n_permutations": options.shuffles}
    shuffled = over(batches, permutation_test, adapter, view=view, **shuffles)
    search: dict[str, Any] = {"method": "published", "n_steps": options.steps, "seed": 0}
    search |= {"epsilon": EPSILON, "n_adversaries": 2}
    other = over(batches[::EVERY], adversarial_attention, adapter, view=view, **search)
    agreement = rank_correlation(gradient.importance, loo.importance, mask=loo.mask)
    weights = gradient.explanation
    row = {
        "tau gradient": gradient.statistic,
        "tau LOO": tau_loo(weights, loo),
        "tau gradient-LOO": agreement.statistic,
        "median TVD": shuffled.median_tvd,
        "eps-max JSD": other.max_jsd,
        "no adversary": 1 - other.feasible.any(1).double(),
        "weight on words": gradient.mass,
        "largest weight": gradient.max_attention,
    }
    if evidence.any():
        row["weight on evidence"] = (weights * evidence).sum(1) / weights.sum(1)
        row["precision@1"] = evidence.gather(1, weights.argmax(1, keepdim=True))[:, 0]
    return row


def tau_loo(weights: Tensor, loo: Correlation) -> Tensor:
    """tau of other weights: what a deletion does to the output is the same for each of them."""
    ties = LOO_TIES
    return rank_correlation(weights, loo.importance, mask=loo.mask, tie_tolerance=ties).statistic


def marked(inputs: Any, examples: Sequence[Example]) -> list[Tensor]:
    """Where the supporting sentences are; words of the story are numbered after the question's."""
    found = []
    for words, each in zip(word_groups(inputs), examples, strict=True):
        evidence = torch.tensor(each.evidence, dtype=torch.int64)
        found.append(torch.isin(words - len(each.question), evidence))
    return found


def audit_heads(adapter: TorchAdapter, batches: Batches, layers: int, heads: int) -> dict[str, Any]:
    """Means over texts of the cheaper tests, one number a layer and head."""
    names = ("tau gradient", "tau LOO", "median TVD", "weight on words")
    maps = {name: np.zeros((layers, heads)) for name in names}
    loo = over(batches, loo_correlation, adapter, view=AttentionView.cls())
    for place in np.ndindex(layers, heads):
        view = AttentionView.cls(place[0], heads=place[1])
        gradient = over(batches, gradient_correlation, adapter, view=view)
        shuffled = over(batches, permutation_test, adapter, view=view, seed=0, n_permutations=10)
        removal = tau_loo(gradient.explanation, loo)
        values = (gradient.statistic, removal, shuffled.median_tvd, gradient.mass)
        for name, value in zip(names, values, strict=True):
            maps[name][place] = value.nanmean()
    return {name: values.tolist() for name, values in maps.items()}


def destinations(adapter: TorchAdapter, batches: Batches, separator: int) -> list[dict[str, float]]:
    """Where the CLS row of each layer looks: at CLS, at separators, and elsewhere."""
    shares: list[Tensor] = []
    for inputs, _ in batches:
        rows = torch.stack(
            [site[:, :, 0].mean(1) for site in adapter.run(inputs).attention.values()]
        )
        to_separator = (rows * (inputs["input_ids"] == separator)).sum(-1)
        shares.append(torch.stack([rows[..., 0], to_separator], -1).detach())
    means = torch.cat(shares, 1).mean(1).tolist()
    return [{"CLS": first, "SEP": separators} for first, separators in means]


def draw(maps: dict[str, Any], path: Path) -> None:
    """One map a test, a cell for each layer and head."""
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(2, 2).flat, maps.items(), strict=True):
        cells = np.array(values)
        middle = (cells.min() + cells.max()) / 2
        small = np.abs(cells).max() < 0.1
        axes.imshow(cells, cmap="Blues")
        axes.set(title=f"{name}, in thousandths" if small else name)
        axes.set(xticks=range(cells.shape[1]), yticks=range(cells.shape[0]))
        axes.label_outer()
        for (layer, head), mean in np.ndenumerate(cells):
            text = f"{1000 * mean:.1f}" if small else f"{mean:.2f}"
            colour = "white" if mean > middle else "black"
            axes.text(head, layer, text, ha="center", va="center", color=colour, fontsize=8)
    figure.supxlabel("head")
    figure.supylabel("layer")
    figure.savefig(path, dpi=110)


def show(name: str, row: dict[str, Tensor]) -> dict[str, Any]:
    """Prints the means of one view with 95 % bootstrap intervals, and returns them."""
    print(name)
    numbers = {}
    for column, values in row.items():
        found = describe(values.double().numpy())
        numbers[column] = asdict(found)
        print(
            f"    {column:<18}{found.mean:8.4f}  [{found.low:.4f}, {found.high:.4f}]  "
            f"{found.n} texts, {found.undefined} undefined",
            flush=True,
        )
    return numbers


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a CSV file, or babi-1")
    parser.add_argument("--weights", required=True, help="folder with a model and its tokenizer")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is written")
    parser.add_argument("--epochs", type=int, default=3, help="0 leaves the weights as they are")
    parser.add_argument("--texts", type=int, default=150, help="texts of the test split to audit")
    parser.add_argument("--length", type=int, default=96, help="longest text in sub-words")
    parser.add_argument("--shuffles", type=int, default=20, help="shuffles of each text")
    parser.add_argument("--steps", type=int, default=50, help="steps of the adversarial search")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.manual_seed(0)
    random.seed(0)
    if options.data == "babi-1":
        data = generate_babi(1, n_train=5000, n_dev=300, n_test=500)
    else:
        data = read_texts(options.data)
    tokenizer = AutoTokenizer.from_pretrained(options.weights)
    encode = encoder(tokenizer, options.length)
    model = AutoModelForSequenceClassification.from_pretrained(
        options.weights, num_labels=len(data.labels)
    )
    options.out.mkdir(parents=True, exist_ok=True)
    if options.epochs:
        fine_tune(model, encode, data, options.epochs)
        model.save_pretrained(options.out / "model")
        tokenizer.save_pretrained(options.out / "model")
    score = accuracy(model, encode, data.test)
    print(f"test accuracy {score:.3f} on {len(data.test)} texts", flush=True)

    chosen = random.Random(0).sample(data.test, min(options.texts, len(data.test)))
    parts = list(in_batches(chosen, 10))
    ids = torch.arange(len(chosen)).split([len(part) for part in parts])
    batches = [(encode(part), rows) for part, rows in zip(parts, ids, strict=True)]
    flags = [row for (x, _), part in zip(batches, parts, strict=True) for row in marked(x, part)]
    evidence = nn.utils.rnn.pad_sequence(flags, batch_first=True)

    pairs = bool(chosen[0].question)
    adapter = adapt(model, mask=story_words if pairs else None)
    sites = adapter.run(batches[0][0]).attention
    layers, heads = len(sites), next(iter(sites.values())).shape[1]
    views = {f"layer {k}": AttentionView.cls(k) for k in range(layers)}
    views["all layers"] = AttentionView(None, query=0)
    views["all layers, every row"] = AttentionView.mean()
    report: dict[str, Any] = {"accuracy": score, "views": {}}
    report["looks at"] = destinations(adapter, batches, tokenizer.sep_token_id)
    for layer, shares in enumerate(report["looks at"]):
        print(f"layer {layer}: {shares['CLS']:.3f} on CLS, {shares['SEP']:.3f} on separators")
    loo = over(batches, loo_correlation, adapter, view=AttentionView.cls())
    for name, view in views.items():
        row = audit_view(adapter, batches, view, loo, evidence, options)
        report["views"][name] = show(name, row)
    report["heads"] = audit_heads(adapter, batches[::EVERY], layers, heads)
    draw(report["heads"], options.out / "heads.png")
    (options.out / "audit.json").write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
