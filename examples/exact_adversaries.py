"""The farthest attention at the same output: the optimum, its proof, and the published search.

    python examples/exact_adversaries.py [reviews.csv] [--plot FILE.png]

Without a file two models learn to answer questions over generated stories: the
published answerer, and one that is linear in its attention. With a file of the
columns text, label and split it trains the four published text models. Each
model takes some minutes on one core, most of them for the proofs under
constraints. docs/adversaries.md explains the tables.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from faithattn import (
    AdversarialFrontier,
    AdversarialResult,
    Plausible,
    adversarial_attention,
    adversarial_frontier,
    total_variation_distance,
)
from faithattn.paper.data.babi import generate_babi
from faithattn.paper.experiment import Prepared, Settings, prepare
from faithattn.paper.models import QuestionAnswerer
from faithattn.paper.models.common import alternatives, pool
from faithattn.paper.models.two_texts import TwoTextsState
from faithattn.paper.training import build, evaluate, train_classifier
from faithattn.statistics import describe

TEXT_MODELS = (
    ("bilstm", "additive"),
    ("bilstm", "scaled_dot"),
    ("cnn", "additive"),
    ("average", "additive"),
)
TOP = 10
# Of the attention (B, L): all but the last ask the same of every batch.
CONSTRAINTS: dict[str, Callable[[Tensor], Plausible | None]] = {
    "none": lambda _: None,
    "entropy of the original": lambda _: Plausible(min_entropy="original"),
    "5 positions of .01": lambda _: Plausible(min_support=5, min_weight=0.01),
    "no change above .3": lambda _: Plausible(max_change=0.3),
    "no change above .1": lambda _: Plausible(max_change=0.1),
    "KL at most 2": lambda _: Plausible(max_kl=2.0),
    "KL at most .5": lambda _: Plausible(max_kl=0.5),
    f"only the {TOP} most attended": lambda attention: Plausible(positions=top(attention)),
}
# Okabe and Ito's colours, one for each kind, and a marker for each constraint.
COLOURS = ("#000000", "#D55E00", "#56B4E9", "#0072B2", "#0072B2", "#009E73", "#009E73", "#CC79A7")
MARKERS = "o^sDvP*X"
_R = TypeVar("_R", AdversarialResult, AdversarialFrontier)


class LinearAnswerer(QuestionAnswerer):
    """The published answerer without its tanh, over all answers: logits affine in the attention."""

    def replay(self, state: TwoTextsState, attention: Mapping[str, Tensor]) -> Tensor:
        pooled = pool(alternatives(attention, state.values), state.values)
        return self.decoder(pooled + state.asked)


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    sample: int = 200  # instances of the frontier, drawn at random
    proven: int = 24  # of them, how many have their constraints certified
    nodes: int = 50  # programmes for each of these; four times as many without constraints
    steps: int = 500
    epsilons: tuple[float, ...] = (0.001, 0.005, 0.01, 0.05, 0.1, 0.2)


class Attacked(NamedTuple):
    """What a method found, the processor's seconds it took, and the largest TVD - epsilon.

    The last is that of the whole model, run again on the attention reported.
    """

    result: AdversarialResult
    seconds: float
    excess: float


def top(attention: Tensor) -> Tensor:
    """The positions of largest weight, as flags ``(B, L)``."""
    places = attention.topk(min(TOP, attention.shape[1]), -1).indices
    return torch.zeros_like(attention, dtype=torch.bool).scatter_(1, places, True)


def outputs(logits: Tensor) -> Tensor:
    """Probabilities of two classes or more."""
    logits = logits.double()
    return torch.cat([logits, logits * 0], 1)[:, : max(2, logits.shape[1])].softmax(-1)


def train(prepared: Prepared) -> float:
    """Trains as ``faithattn reproduce`` does; the accuracy on the test split."""
    settings, data = prepared.settings, prepared.dataset
    train_classifier(
        prepared.model,
        data.train,
        data.dev,
        collate=prepared.collate,
        epochs=settings.epochs or 8,
        batch_size=settings.batch_size,
        patience=5 if data.train[0].question else 3,
        seed=settings.seed,
        progress=False,
    )
    return evaluate(prepared.model, data.test, collate=prepared.collate).accuracy


def by_length(prepared: Prepared, places: list[int]) -> list[int]:
    return sorted(places, key=lambda place: len(prepared.dataset.test[place].tokens))


def over(prepared: Prepared, places: list[int], test: Callable[[Any, Tensor], _R]) -> _R:
    """A test in batches; draws depend on an instance's place alone."""
    size, results = prepared.settings.batch_size, []
    for batch in (places[start : start + size] for start in range(0, len(places), size)):
        inputs, _ = prepared.collate([prepared.dataset.test[place] for place in batch])
        results.append(test(inputs, torch.tensor(batch)))
    return type(results[0]).concatenate(results)


def attack(
    prepared: Prepared, places: list[int], sizes: Sizes, *, constraint: str = "none", **options: Any
) -> Attacked:
    model, epsilon = prepared.model, prepared.settings.epsilon or 0.01
    seconds, excess = [], []

    def test(inputs: Any, ids: Tensor) -> AdversarialResult:
        own = model.run(inputs)
        limits = CONSTRAINTS[constraint](own.attention["attention"])
        options.update(constraints=limits, instances=ids, seed=0, n_steps=sizes.steps)
        start = time.process_time()
        found = adversarial_attention(model, inputs, epsilon=epsilon, **options)
        seconds.append(time.process_time() - start)
        other = model.run(inputs, attention={"attention": found.strongest})
        tvd = total_variation_distance(outputs(own.logits), outputs(other.logits))
        excess.append(tvd.max().item() - epsilon)
        return found

    with torch.no_grad():
        result = over(prepared, places, test)
    return Attacked(result, sum(seconds), max(excess))


def frontier(prepared: Prepared, places: list[int], sizes: Sizes) -> AdversarialFrontier:
    model = prepared.model

    def test(inputs: Any, ids: Tensor) -> AdversarialFrontier:
        with torch.no_grad():
            attention = model.run(inputs).attention["attention"]
        limits = [make(attention) for make in CONSTRAINTS.values()]
        return adversarial_frontier(
            model, inputs, epsilons=sizes.epsilons, constraints=limits, n_steps=sizes.steps,
            seed=0, instances=ids,
        )  # fmt: skip

    return over(prepared, places, test)


def cell(values: Tensor) -> str:
    """Mean and its bootstrap interval (BCa)."""
    found = describe(values.double().numpy())
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def table(*rows: tuple[object, ...]) -> None:
    """Prints a table in Markdown, the first row its head."""
    for number, row in enumerate(rows):
        print("| " + " | ".join(map(str, row)) + " |")
        if number == 0:
            print("|---" * len(row) + "|")
    print(flush=True)


def compare(prepared: Prepared, method: str, sizes: Sizes) -> Iterator[tuple[object, ...]]:
    """Ours beside the published search on every test instance, row by row."""
    places = by_length(prepared, list(range(len(prepared.dataset.test))))
    search = attack(prepared, places, sizes, method="published")
    best = attack(prepared, places, sizes, method=method, n_nodes=4 * sizes.nodes)
    ours, theirs = best.result, search.result
    lengths = torch.tensor([len(prepared.dataset.test[place].tokens) for place in places])
    entropy = -(ours.original * ours.original.clamp_min(1e-30).log()).sum(-1)
    gain, gap = ours.max_jsd - theirs.max_jsd, ours.upper_bound - ours.max_jsd
    nodes = ours.n_nodes.double()
    yield "quantity", f"published search and {ours.method}"
    yield "instances; words", f"{len(places)}; {lengths.double().mean():.1f} on average"
    yield "entropy of the attention / ln T", cell((entropy / lengths.log())[lengths > 1])
    yield "eps-max JSD, published search", cell(theirs.max_jsd)
    yield f"eps-max JSD, {ours.method}", cell(ours.max_jsd)
    yield "gain, instance by instance", cell(gain)
    yield "instances in which ours is lower by 1e-6", int((gain < -1e-6).sum())
    yield "largest TVD - epsilon, model run again", f"{best.excess:.1e}"
    yield "ceiling", cell(ours.upper_bound)
    yield "gap to the ceiling", f"{gap.mean():.1e} on average, {gap.max():.1e} at most"
    yield "share certified", f"{ours.certified.double().mean():.3f}"
    for ending, count in Counter(ours.endings).most_common():
        yield f"ended: {ending}", count
    yield "linear programmes", f"{nodes.mean():.1f} on average, {int(nodes.max())} at most"
    yield "seconds, published search and ours", f"{search.seconds:.2f}, {best.seconds:.2f}"


def show(name: str, prepared: Prepared, method: str, sizes: Sizes) -> list[dict[str, Any]]:
    """Trains and attacks one model; the curves of its frontier."""
    accuracy, epsilon = train(prepared), prepared.settings.epsilon
    print(f"## {name}: accuracy {accuracy:.3f}, epsilon {epsilon:g}\n", flush=True)
    table(*compare(prepared, method, sizes))
    places = by_length(prepared, list(prepared.instances))
    found = frontier(prepared, places, sizes)
    curves, width = found.curves(), len(sizes.epsilons)
    print(f"{len(places)} instances by {found.method}, eps-max JSD:\n")
    cells = [f"{each['mean']:.3f} [{each['low']:.3f}, {each['high']:.3f}]" for each in curves]
    table(
        ("constraint", *(f"epsilon {epsilon:g}" for epsilon in sizes.epsilons)),
        *((key, *cells[q * width :][:width]) for q, key in enumerate(CONSTRAINTS)),
    )
    if method != "search":
        few = by_length(prepared, list(prepared.instances[: sizes.proven]))
        print(f"the first {len(few)} of these at epsilon {epsilon:g}, certified:\n")
        head = ("constraint", "eps-max JSD", "ceiling", "share certified")
        table(head, *proven(prepared, few, sizes))
    return curves


def proven(prepared: Prepared, places: list[int], sizes: Sizes) -> Iterator[tuple[object, ...]]:
    for key in CONSTRAINTS:
        options = {"method": "certified", "n_nodes": sizes.nodes, "n_adversaries": 1}
        found = attack(prepared, places, sizes, constraint=key, **options).result
        share = found.certified.double().mean()
        yield key, cell(found.max_jsd), cell(found.upper_bound), f"{share:.2f}"


def draw(found: dict[str, list[dict[str, Any]]], width: int, path: Path) -> None:
    """A frontier for each model, a curve for each constraint, bands of 95 % around the means."""
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(5 * columns, 3.8 * rows + 0.9), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (name, curves) in zip(grid.flat, found.items(), strict=False):
        for q, key in enumerate(CONSTRAINTS):
            part = curves[q * width :][:width]
            x, mean, low, high = (
                np.array([each[column] for each in part])
                for column in ("epsilon", "mean", "low", "high")
            )
            axes.fill_between(x, low, high, color=COLOURS[q], alpha=0.15, linewidth=0)
            axes.plot(x, mean, color=COLOURS[q], marker=MARKERS[q], label=key)
        axes.axhline(np.log(2), color="0.5", linestyle=":")
        axes.set(title=name, xscale="log")
    for axes in grid[-1]:
        axes.set_xlabel("allowed change of the output, epsilon")
    for axes in grid[:, 0]:
        axes.set_ylabel("eps-max JSD, nats (dotted: ln 2)")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def models(options: argparse.Namespace, sizes: Sizes) -> Iterator[tuple[str, Prepared, str]]:
    """Name, model and data, and the method that is the best for it."""
    small = {"embedding_size": 16, "hidden_size": 8, "epochs": 1} if options.quick else {}
    settings = Settings(instances=sizes.sample, **small)
    if options.file:
        for encoder, attention in TEXT_MODELS:
            chosen = replace(settings, encoder=encoder, attention=attention)
            name = f"{encoder} {attention.replace('_', ' ')}"
            yield name, prepare(options.file, chosen), "exact"
        return
    task: Any = "babi-1"
    if options.quick:
        task = generate_babi(1, n_train=64, n_dev=8, n_test=8)
    prepared = prepare(task, settings)
    yield "answerer, tanh", prepared, "search"
    names = ("n_classes", "embedding_size", "hidden_size")
    shape = {name: prepared.model.config[name] for name in names}
    model = build(lambda: LinearAnswerer(len(prepared.vocabulary), **shape), seed=0)
    yield "answerer, linear", replace(prepared, model=model), "certified"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?", help="texts; without, stories are generated")
    parser.add_argument("--plot", type=Path, help="where to draw the frontier")
    parser.add_argument("--quick", action="store_true", help="a few seconds, learns nothing")
    options = parser.parse_args()
    sizes = Sizes(4, 2, 2, 5, (0.01, 0.05)) if options.quick else Sizes()
    found = {each[0]: show(*each, sizes) for each in models(options, sizes)}
    if options.plot:
        draw(found, len(sizes.epsilons), options.plot)


if __name__ == "__main__":
    main()
