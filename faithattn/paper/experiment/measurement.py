"""The four published tests, batch by batch, over the test instances of an experiment."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from faithattn.metrics.adversarial.attention import adversarial_attention
from faithattn.metrics.correlation import gradient_correlation, loo_correlation
from faithattn.metrics.permutation import permutation_test
from faithattn.paper.data.batches import evidence_mask
from faithattn.paper.data.portions import portions
from faithattn.paper.experiment.preparation import Prepared
from faithattn.paper.training.evaluation import Inputs, text_length
from faithattn.results.adversarial import AdversarialResult
from faithattn.results.base import Result
from faithattn.results.correlation import Correlation
from faithattn.results.permutation import PermutationResult

_R = TypeVar("_R", bound=Result)
_T = TypeVar("_T")


class Evidence(NamedTuple):
    """How much of each score lies on the words that the answer rests on.

    Attributes:
        attention: Share of the attention there, ``(N,)``, 0..1; nan, as the
            others, where nothing is known of an instance.
        gradient: Share of the gradient importance, ``(N,)``.
        leave_one_out: Share of the leave-one-out importance, ``(N,)``.
        positions: Share of the positions, what a blind score would give, ``(N,)``.
    """

    attention: Tensor
    gradient: Tensor
    leave_one_out: Tensor
    positions: Tensor


class Measurements(NamedTuple):
    """Results of the four tests in the order of the test split, and seconds each took.

    Attributes:
        gradient: Attention and gradients.
        loo: Attention and leave-one-out.
        permutation: Attention shuffled.
        adversarial: What the published search finds.
        farthest: The optimum where it has a closed form, else what our search
            finds: one adversary an instance.
        seconds: Wall time of each.
    """

    gradient: Correlation
    loo: Correlation
    permutation: PermutationResult
    adversarial: AdversarialResult
    farthest: AdversarialResult
    seconds: dict[str, float]


def run_tests(prepared: Prepared, *, progress: bool) -> Measurements:
    """Runs the four tests.

    Args:
        prepared: A trained model and its data.
        progress: Show progress bars on standard error.

    Returns:
        Results whose draws depend on the seed and an instance's place in the
        test split only, whatever else is tested.
    """
    settings, model = prepared.settings, prepared.model
    # Resolved settings leave nothing open.
    epsilon = 0.01 if settings.epsilon is None else settings.epsilon
    seconds: dict[str, float] = {}

    def over(name: str, test: Callable[[Inputs, Tensor], _R]) -> _R:
        start = time.perf_counter()
        result = over_instances(prepared, test, name, progress)
        seconds[name] = time.perf_counter() - start
        return result

    def attack(method: str) -> Callable[[Inputs, Tensor], AdversarialResult]:
        return lambda x, ids: adversarial_attention(
            model, x, epsilon=epsilon, n_adversaries=settings.adversaries, method=method,
            n_steps=settings.n_steps, seed=settings.seed, instances=ids,
        )  # fmt: skip

    return Measurements(
        gradient=over("gradients", lambda x, _: gradient_correlation(model, x)),
        loo=over("leave-one-out", lambda x, _: loo_correlation(model, x)),
        permutation=over(
            "permutations",
            lambda x, ids: permutation_test(
                model, x, n_permutations=settings.permutations, seed=settings.seed, instances=ids
            ),
        ),
        adversarial=over("adversaries", attack("published")),
        farthest=over("farthest", lambda x, ids: _best(attack("auto")(x, ids))),
        seconds=seconds,
    )  # fmt: skip


def evidence_shares(prepared: Prepared, gradient: Correlation, loo: Correlation) -> Evidence | None:
    """Compares the scores with what the answers are known to rest on; None where nothing is."""
    examples = prepared.examples
    known = torch.tensor([bool(example.evidence) for example in examples])
    if not known.any():
        return None
    marked = evidence_mask(examples, gradient.mask.shape[1]) & gradient.mask

    def share(scores: Tensor) -> Tensor:
        return ((scores * marked).sum(1) / scores.sum(1)).where(known, torch.nan)

    return Evidence(
        attention=share(gradient.explanation),
        gradient=share(gradient.importance),
        leave_one_out=share(loo.importance),
        positions=share(gradient.mask.double()),
    )


def over_batches(
    prepared: Prepared, test: Callable[[Inputs, Tensor], _T], name: str, progress: bool
) -> tuple[list[_T], Tensor]:
    """Runs something over batches of similar length.

    Args:
        prepared: A trained model and its data.
        test: What to run on inputs and the places ``(B,)`` of the texts in the
            test split.
        name: What the progress bar says.
        progress: Show it on standard error.

    Returns:
        What it returned for each batch, and the index ``(N,)`` that puts the
        instances of all, one after the other, into the order of the test split.
    """
    places = sorted(prepared.instances, key=lambda place: text_length(prepared.dataset.test[place]))
    lengths = [text_length(prepared.dataset.test[place]) for place in places]
    parts = portions(lengths, prepared.settings.batch_size)
    batches = [places[part.start : part.stop] for part in parts]
    # Long batches cost the most: in random order, the time left is a fair estimate.
    random.Random(0).shuffle(batches)
    results = []
    with tqdm(total=len(places), desc=f"{name:>13}", unit="text", disable=not progress) as bar:
        for batch in batches:
            inputs, _ = prepared.collate([prepared.dataset.test[place] for place in batch])
            results.append(test(inputs, torch.tensor(batch)))
            bar.update(len(batch))
    return results, torch.tensor([place for batch in batches for place in batch]).argsort()


def over_instances(
    prepared: Prepared, test: Callable[[Inputs, Tensor], _R], name: str, progress: bool
) -> _R:
    """Runs one test over all instances, in the order of the test split; see over_batches."""
    results, order = over_batches(prepared, test, name, progress)
    return _reordered(type(results[0]).concatenate(results), order)


def _best(result: AdversarialResult) -> AdversarialResult:
    """Keeps the best adversary of each instance: in long texts the others take most memory."""
    names = ("attention", "probabilities", "tvd", "jsd", "feasible")
    best: dict[str, Any] = {name: getattr(result, name)[:, :1].clone() for name in names}
    return replace(result, **best)


def _reordered(result: _R, order: Tensor) -> _R:
    """Returns the instances of a result in another order."""
    values: dict[str, Any] = {field.name: getattr(result, field.name) for field in fields(result)}
    for name, value in values.items():
        if isinstance(value, Tensor):
            values[name] = value[order]
    return type(result)(**values)
