"""A logistic regression on which words a text holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, log_softmax
from torch.nn.utils.rnn import pad_sequence

from faithattn._checks import require_count
from faithattn.paper.data.examples import Example
from faithattn.paper.data.ids import PADDING
from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.log_odds.newton import Loss, least_loss
from faithattn.paper.log_odds.presence import word_presence
from faithattn.paper.log_odds.weights import LogOdds

_Numbers: TypeAlias = NDArray[np.float64]
_Fit: TypeAlias = tuple[_Numbers, _Numbers]  # weights (R, V) and bias (R,)

_BATCH = 64


def fit_log_odds(
    examples: Sequence[Example],
    vocabulary: Vocabulary,
    n_classes: int,
    *,
    kind: str = "texts",
    l2: float = 1.0,
) -> LogOdds:
    """Fits a logistic regression on the words that texts hold.

    The weights minimise the sum over examples of cross entropy, each example
    weighted as in training so that classes count alike and the mean weight is
    1, plus ``l2 / 2`` times the sum of squared weights; the bias is free. Two
    classes have one row of weights. C classes have a softmax over C rows, which
    the penalty centres; they are multiplied by ``C / (C - 1)``, so that a weight
    is the log-probability of its class less the mean of the others', and two
    such rows would be those of two classes. Labels have a regression each.

    The optimum of a class or label that none, or every, example has lies at
    infinity: words then say nothing and the bias is infinite. Of the other
    classes, each is compared with those that occur.

    Args:
        examples: Examples to fit: with a class or with labels.
        vocabulary: Turns tokens into ids; words outside of it are left out.
        n_classes: Number of classes or labels.
        kind: ``"texts"``, of one class each, or ``"labels"``.
        l2: Strength of the penalty, positive; 1 gives clear words log-odds of
            about 1 to 4.

    Returns:
        Log-odds, float32, to about four decimals. They do not depend on the
        order of the examples beyond that.

    Raises:
        TypeError: If ``n_classes`` is not a whole number.
        ValueError: If there is no example, a class or label is out of range, an
            option is, or ``l2`` is too small to find the optimum.

    Examples:
        >>> examples = [Example(("a", "good", "film"), 1), Example(("a", "bad", "film"), 0)]
        >>> vocabulary = Vocabulary.build([example.tokens for example in examples])
        >>> log_odds = fit_log_odds(examples, vocabulary, 2)
        >>> [(word, round(x, 2)) for word, x in zip(vocabulary.words, log_odds.weights[0].tolist())]
        [('<pad>', 0.0), ('<unk>', 0.0), ('<s>', 0.0), ('</s>', 0.0),
         ('a', 0.0), ('film', 0.0), ('bad', -0.4), ('good', 0.4)]
    """
    _check(examples, n_classes, kind, l2)
    held = word_presence(examples, vocabulary)
    if kind == "labels":
        fits = [_binary(held, truth, l2) for truth in _labels_held(examples, n_classes).T]
        weights, bias = (np.concatenate(each) for each in zip(*fits, strict=True))
    else:
        classes = np.array([example.label for example in examples])
        if n_classes == 2:
            weights, bias = _binary(held, classes == 1, l2)
        else:
            weights, bias = _several(held, classes, n_classes, l2)
    return LogOdds(
        torch.from_numpy(weights).float(), torch.from_numpy(bias).float(), kind == "labels"
    )


def accuracy(log_odds: LogOdds, examples: Sequence[Example], vocabulary: Vocabulary) -> float:
    """Share of examples that the regression predicts right.

    Args:
        log_odds: The regression.
        examples: Examples as it was fitted to: with a class, or with labels.
        vocabulary: The vocabulary it was fitted with.

    Returns:
        0..1; of several labels, the share of all labels of all examples.

    Raises:
        ValueError: If there is no example, one has another kind of label or one
            out of range, or the vocabulary has another size.

    Examples:
        >>> examples = [Example(("a", "good", "film"), 1), Example(("a", "bad", "film"), 0)]
        >>> vocabulary = Vocabulary.build([example.tokens for example in examples])
        >>> accuracy(fit_log_odds(examples, vocabulary, 2), examples, vocabulary)
        1.0
    """
    kind = "labels" if log_odds.independent else "texts"
    _check_examples(examples, log_odds.n_classes, kind)
    if len(vocabulary) != log_odds.weights.shape[1]:
        raise ValueError(
            f"vocabulary must have the {log_odds.weights.shape[1]} words of the regression; got "
            f"{len(vocabulary)}. Pass the one it was fitted with."
        )
    right = 0
    by_length = sorted(examples, key=lambda example: len(example.tokens))
    for start in range(0, len(by_length), _BATCH):
        batch = by_length[start : start + _BATCH]
        ids = pad_sequence(
            [torch.tensor(vocabulary.encode(example.tokens)) for example in batch],
            batch_first=True,
            padding_value=PADDING,
        )
        if log_odds.independent:
            truth = torch.from_numpy(_labels_held(batch, log_odds.n_classes))
        else:
            truth = torch.tensor([example.label for example in batch])
        right += int((log_odds.predict(ids) == truth).sum())
    return right / (len(examples) * (log_odds.n_classes if log_odds.independent else 1))


def _binary(held: Any, truth: NDArray[np.bool_], l2: float) -> _Fit:
    """Fits one row of weights: of what is true against what is not."""
    n, positive = len(truth), int(truth.sum())
    if positive in (0, n):
        return np.zeros((1, held.shape[1])), np.array([math.inf if positive else -math.inf])
    sign = np.where(truth, 1.0, -1.0)[:, None]
    factors = n / (2 * np.where(truth, positive, n - positive))[:, None]

    def loss(logits: _Numbers) -> Loss:
        wrong = expit(-sign * logits)
        bend = factors * wrong * (1 - wrong)
        value = float((factors * np.logaddexp(0, -sign * logits)).sum())
        return Loss(value, -factors * sign * wrong, lambda change: bend * change)

    return least_loss(held, loss, 1, l2)


def _several(held: Any, classes: NDArray[np.int64], n_classes: int, l2: float) -> _Fit:
    """Fits a row of weights for each class, against the mean of the others."""
    present, numbers, counts = np.unique(classes, return_inverse=True, return_counts=True)
    weights, bias = np.zeros((n_classes, held.shape[1])), np.full(n_classes, -math.inf)
    if len(present) == 1:
        bias[present] = math.inf
        return weights, bias
    truth = np.eye(len(present))[numbers]
    factors = (len(classes) / (len(present) * counts))[numbers][:, None]

    def loss(logits: _Numbers) -> Loss:
        logs = log_softmax(logits, axis=1)
        p = np.exp(logs)

        def bend(change: _Numbers) -> _Numbers:
            mean = (p * change).sum(1, keepdims=True)
            bent: _Numbers = factors * p * (change - mean)
            return bent

        return Loss(-float((factors * truth * logs).sum()), factors * (p - truth), bend)

    rows, free = least_loss(held, loss, len(present), l2)
    # What is common to all classes changes nothing, so the bias may as well be centred too.
    stretch = len(present) / (len(present) - 1)
    weights[present], bias[present] = (stretch * (each - each.mean(0)) for each in (rows, free))
    return weights, bias


def _labels_held(examples: Sequence[Example], n_labels: int) -> NDArray[np.bool_]:
    """Returns which labels hold ``(N, n_labels)``."""
    held = np.zeros((len(examples), n_labels), bool)
    for row, example in enumerate(examples):
        held[row, list(example.labels or ())] = True
    return held


def _check(examples: Sequence[Example], n_classes: int, kind: str, l2: float) -> None:
    """Raises unless there is something to fit, with options in range."""
    if kind not in ("texts", "labels"):
        raise ValueError(
            f"kind must be texts or labels; got {kind!r}. Pairs and questions are not decided by "
            "which words one text holds."
        )
    require_count("n_classes", n_classes, least=1 if kind == "labels" else 2)
    if not 0 < l2 < math.inf:
        raise ValueError(f"l2 must be positive and finite; got {l2}. Use 1, the default.")
    _check_examples(examples, n_classes, kind)


def _check_examples(examples: Sequence[Example], n_classes: int, kind: str) -> None:
    """Raises unless there are examples, of the right kind, with labels in range."""
    if not examples:
        raise ValueError("examples must hold an example; got none. Check the data and split.")
    for row, example in enumerate(examples):
        if (example.labels is None) == (kind == "labels"):
            expected = "several labels" if kind == "labels" else "one class"
            raise ValueError(
                f"examples must have {expected} each; got something else in example {row}. "
                "Choose kind to fit the data."
            )
        numbers = (example.label,) if example.labels is None else example.labels
        outside = [number for number in numbers if not 0 <= number < n_classes]
        if outside:
            raise ValueError(
                f"labels must lie in 0..{n_classes - 1}; got {outside[0]} in example {row}. "
                "Number the classes from 0."
            )
