"""The words ranked first are replaced by words that speak for another class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.adapters.reading import Reading, read
from faithattn.importance.removal.outputs import rows_at_once
from faithattn.measures.draws import instance_ids, sort_keys, spans
from faithattn.measures.outputs import class_probability, predicted_class, probabilities
from faithattn.paper.data.ids import END
from faithattn.paper.experiment.findings import Replacement
from faithattn.paper.log_odds.weights import LogOdds

RANDOM = "random"
_LAST = torch.iinfo(torch.int64).max
_WORDS = 0x776F726473  # words are drawn apart from the order of places


def word_replacement(
    model: object,
    ids: Tensor,
    ranks: Mapping[str, Tensor],
    words: LogOdds,
    *,
    counts: Sequence[int] = (1, 2, 3, 5),
    top: int = 20,
    seed: int = 0,
    instances: Tensor | None = None,
) -> Replacement:
    """Fall of the predicted class when the first words become words of another class.

    If a ranking says what the model looks at, replacing its first words moves
    the prediction further than replacing as many at random, the control that
    is always there. The other class is the other one of two, else the
    runner-up of the model's own. Its words are drawn from the ``top`` with the
    highest log-odds for it, above 0, each once in a text as long as there are
    enough; the first place gets the same word in every order, and so on, so
    that orders differ in places only. The whole model runs again.

    Args:
        model: A classifier whose inputs are token ids: an
            :class:`~faithattn.AttentionModel` or a plain ``nn.Module``.
        ids: Token ids, shape ``(B, L)``.
        ranks: By order, the rank of each position, ``(B, L)`` whole numbers, 0
            first. Equal ranks are taken in the random order.
        words: Log-odds of the words by class.
        counts: Numbers of words to replace, ascending.
        top: How many words of each class are drawn from, at least 1.
        seed: Any whole number. Draws are a function of (seed, id, place).
        instances: Ids ``(B,)`` of the texts, int64; default ``arange(B)``.

    Returns:
        Falls and flips, ``(B, K)`` for each order and for ``"random"``; nan
        where a text has fewer words than are to be replaced, or no word
        speaks for the other class.

    Raises:
        AdapterError: If the model breaks its contract.
        ValueError: If an argument is out of range, the model does not predict
            one of several classes, or the log-odds are of other classes.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model, ids = TextClassifier(9), torch.tensor([[2, 5, 6, 7, 3]])
        >>> words = LogOdds(torch.tensor([[0, 0, 0, 0, 1.0, -1.0, 0.5, 0, 0]]), torch.zeros(1))
        >>> ranks = {"reading": torch.tensor([[0, 0, 1, 2, 0]])}
        >>> found = word_replacement(model, ids, ranks, words, counts=(1, 4))
        >>> found.change["reading"].isnan(), sorted(found.flipped)
        (tensor([[False,  True]]), ['random', 'reading'])
    """
    numbers = _checked(counts)
    require_count("top", top)
    with torch.no_grad():
        reading = read(model, ids)
        _check_ranks(ranks, reading.rows.mask)
        own = instance_ids(instances, reading.outputs)
        keys = sort_keys(seed, own, 0, 1, reading.rows.mask)[:, 0]
        most = min(numbers[-1], ids.shape[1])
        put = _drawn(reading, words, top, (seed, own), most)
        every = {**ranks, RANDOM: torch.zeros_like(keys)}
        found = {
            name: _replaced(
                reading, ids, _places(order, keys, reading.rows.mask, most), put, numbers
            )
            for name, order in every.items()
        }
    return Replacement(
        numbers,
        change={name: change for name, (change, _) in found.items()},
        flipped={name: flipped for name, (_, flipped) in found.items()},
    )


class _Put(NamedTuple):
    """The word ``(B, most)`` for each place, the first place first, and whether there is any."""

    words: Tensor
    known: Tensor  # (B,)


def _drawn(
    reading: Reading, words: LogOdds, top: int, drawn: tuple[int, Tensor], most: int
) -> _Put:
    """Draws words of each text's other class."""
    other, n_classes = _other_class(reading)
    rows = len(words.weights)
    if rows != n_classes and (rows, n_classes) != (1, 2):
        raise ValueError(
            f"words must have log-odds of the model's {n_classes} classes; got "
            f"{rows} rows. Fit them on the same data."
        )
    every = torch.stack([words.towards(number) for number in range(n_classes)]).to(other.device)
    every[:, : END + 1] = 0  # no word, whatever it may weigh
    ranked = every.sort(dim=1, descending=True, stable=True)
    table = ranked.indices[:, :top]
    known = (ranked.values[:, :top] > 0).sum(1)[other]
    seed, own = drawn
    real = torch.arange(table.shape[1], device=other.device) < known[:, None]
    keys = sort_keys(seed ^ _WORDS, own, 0, 1, torch.ones_like(real))[:, 0]
    order = keys.masked_fill(~real, _LAST).argsort(dim=1, stable=True)
    turns = torch.arange(most, device=other.device) % known.clamp_min(1)[:, None]
    return _Put(table[other].gather(1, order.gather(1, turns)), known > 0)


def _other_class(reading: Reading) -> tuple[Tensor, int]:
    """The class ``(B,)`` that each text is moved towards, and how many classes there are."""
    outputs, width = reading.outputs, reading.outputs.shape[-1]
    if reading.output == "sigmoid" and width == 1:
        return 1 - reading.predicted, 2
    if reading.output == "softmax" and width > 1:
        return outputs.scatter(1, reading.predicted[:, None], -1).argmax(1), width
    raise ValueError(
        f"model must predict one of several classes; got {width} outputs of kind "
        f"{reading.output!r}. Leave this experiment out where no class can be exchanged."
    )


def _places(ranks: Tensor, keys: Tensor, mask: Tensor, most: int) -> Tensor:
    """The first positions ``(B, most)`` of an order, then what is outside the mask."""
    shuffled = keys.masked_fill(~mask, _LAST).argsort(dim=1, stable=True)
    ranked = ranks.long().masked_fill(~mask, _LAST).gather(1, shuffled)
    return shuffled.gather(1, ranked.argsort(dim=1, stable=True))[:, :most]


def _replaced(
    reading: Reading, ids: Tensor, places: Tensor, put: _Put, counts: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Falls and flips ``(B, K)`` with words put into the first places."""
    numbers = torch.tensor(counts, device=ids.device)
    enough = (reading.rows.mask.sum(1)[:, None] >= numbers) & put.known[:, None]
    change = reading.outputs.new_full(enough.shape, math.nan)
    flipped = change.clone()
    before = class_probability(reading.outputs, reading.predicted, reading.output)
    rows, columns = enough.nonzero(as_tuple=True)
    slots = torch.arange(places.shape[1], device=ids.device)
    for first, last in spans(len(rows), rows_at_once(reading)):
        row, column = rows[first:last], columns[first:last]
        changed, at = ids[row], places[row]
        new = torch.where(slots < numbers[column, None], put.words[row], changed.gather(1, at))
        logits = reading.model.run(changed.scatter(1, at, new)).logits
        outputs, predicted = probabilities(logits, reading.output), reading.predicted[row]
        change[row, column] = before[row] - class_probability(outputs, predicted, reading.output)
        turned = predicted_class(outputs, reading.output) != predicted
        flipped[row, column] = turned.to(flipped.dtype)
    return change, flipped


def _checked(counts: Sequence[int]) -> tuple[int, ...]:
    """Returns numbers of words, which must ascend."""
    numbers = tuple(require_count("counts", each) for each in counts)
    if not numbers or sorted(set(numbers)) != list(numbers):
        raise ValueError(
            f"counts must ascend; got {list(numbers)}. Sort them and leave out repetitions."
        )
    return numbers


def _check_ranks(ranks: Mapping[str, Tensor], mask: Tensor) -> None:
    """Raises unless every order has whole numbers for the positions and a name of its own."""
    if RANDOM in ranks:
        raise ValueError(
            f"ranks must not hold {RANDOM!r}; got {sorted(ranks)}. The random order is added."
        )
    for name, each in ranks.items():
        if each.shape != mask.shape or each.is_floating_point():
            raise ValueError(
                f"ranks must be whole numbers of shape {tuple(mask.shape)}; got {each.dtype} "
                f"{tuple(each.shape)} for {name!r}. Rank scores first, 0 for the largest."
            )
