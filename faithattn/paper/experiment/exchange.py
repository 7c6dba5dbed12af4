"""Log-odds of words put in the place of what a model learned: as attention, and as words."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.metrics.substitution import attention_substitution
from faithattn.paper.experiment.concentration import effective_words
from faithattn.paper.experiment.findings import LogOddsFindings, Replacement
from faithattn.paper.experiment.measurement import over_batches, over_instances
from faithattn.paper.experiment.preparation import Prepared
from faithattn.paper.experiment.rankings import rankings
from faithattn.paper.experiment.replacement import word_replacement
from faithattn.paper.log_odds.weights import LogOdds
from faithattn.paper.training.evaluation import Inputs
from faithattn.results.correlation import Correlation
from faithattn.results.substitution import SubstitutionResult


def find_log_odds(
    prepared: Prepared,
    log_odds: LogOdds,
    accuracy: float,
    gradient: Correlation,
    loo: Correlation,
    *,
    progress: bool,
) -> LogOddsFindings:
    """Puts attention by log-odds into a model, and words of other classes into its texts.

    Args:
        prepared: A trained model of texts with one class or several labels.
        log_odds: What a regression on the training split gives to words.
        accuracy: Share of the test split that the regression gets right.
        gradient: Attention and gradients of the instances, in their order.
        loo: Attention and leave-one-out of the same.
        progress: Show progress bars on standard error.

    Returns:
        Findings in the order of the test split; draws depend on the seed and
        an instance's place there only.

    Raises:
        ValueError: If the task is another one, or the log-odds do not fit it.
    """
    kind = prepared.dataset.kind
    if kind not in ("texts", "labels"):
        raise ValueError(
            f"prepared must be of texts with classes or labels; got {kind}. "
            "Leave log-odds out: a word of a text says nothing without its question."
        )
    substitution = over_instances(
        prepared, lambda x, _: _substituted(prepared, log_odds, x), "log-odds", progress
    )
    parts, order = over_batches(
        prepared, lambda x, _: effective_words(log_odds.attention(_ids(x))), "words", False
    )
    replacement = None
    if kind == "texts":
        replacement = _replacement(prepared, log_odds, gradient, loo, progress)
    return LogOddsFindings(
        accuracy,
        substitution,
        words=torch.cat(parts)[order],
        own_words=effective_words(gradient.explanation),
        replacement=replacement,
    )


def _substituted(prepared: Prepared, log_odds: LogOdds, inputs: Inputs) -> SubstitutionResult:
    """The model under attention by log-odds."""
    ids = _ids(inputs)
    return attention_substitution(prepared.model, ids, log_odds.attention(ids))


def _replacement(
    prepared: Prepared, log_odds: LogOdds, gradient: Correlation, loo: Correlation, progress: bool
) -> Replacement:
    """Words replaced in every text, put back in order."""
    every = torch.tensor(prepared.instances)

    def replace(inputs: Inputs, places: Tensor) -> Replacement:
        ids = _ids(inputs)
        ranked = rankings(gradient, loo, torch.searchsorted(every, places))
        ranks = {name: each.ranks[:, : ids.shape[1]] for name, each in ranked.items()}
        return word_replacement(
            prepared.model, ids, ranks, log_odds, seed=prepared.settings.seed, instances=places
        )

    parts, order = over_batches(prepared, replace, "replacements", progress)
    first = parts[0]
    return Replacement(
        first.counts,
        change={name: torch.cat([p.change[name] for p in parts])[order] for name in first.change},
        flipped={
            name: torch.cat([p.flipped[name] for p in parts])[order] for name in first.flipped
        },
    )


def _ids(inputs: Inputs) -> Tensor:
    """The token ids of texts."""
    if isinstance(inputs, Tensor):
        return inputs
    raise TypeError(
        f"prepared must collate texts to token ids; got {sorted(inputs)}. Use collate_texts."
    )
