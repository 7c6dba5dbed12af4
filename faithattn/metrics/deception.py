"""Do positions that get little weight decide the output all the same?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from faithattn._checks import require_count, require_flags
from faithattn.adapters.reading import Reading, read
from faithattn.adapters.view import AttentionView
from faithattn.explanations.given import Explanation, name_of_explanation, scores_of
from faithattn.explanations.token_ids import token_ids
from faithattn.importance.leave_one_out import Removal, changes, check_removal, expected_replays
from faithattn.importance.removal.changes import change_from
from faithattn.importance.removal.outputs import over_sets
from faithattn.importance.removal.sets import Marked, Singles
from faithattn.measures.tops import falling_ranks, first_by_rank
from faithattn.results.deception import DeceptionResult

_EVEN = 1e-5  # relative: shares this near are the same, as those of a uniform explanation


def deception_screen(
    model: object,
    inputs: Any,
    *,
    positions: Tensor | None = None,
    tokens: Sequence[int] | None = None,
    explanation: Explanation = "attention",
    removal: Removal = "delete",
    min_effect: float = 0.1,
    target: int | Tensor | None = None,
    view: AttentionView | None = None,
    seed: int = 0,
    instances: Tensor | None = None,
) -> DeceptionResult:
    """Weight on named positions, such as gender words, beside their effect on the output.

    A model can be trained to attend elsewhere and to use a word all the same,
    through the states of its neighbours. An instance is flagged where the
    named positions, all together,

    1. have less of the weight than as many positions have on average,
    2. change the output by ``min_effect`` or more when they are removed, and
    3. change it more than the rivals do: as many other positions, those with
       the largest scores.

    A flag says that the explanation hides what the model uses, not that
    anybody meant it to: unfaithful attention of a model that was trained
    honestly is flagged, too. What is removed has to be removed from the
    encoder: ``"mask_attention"`` takes away a weight that is near zero, and
    sees nothing of what reaches the output by other ways.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        positions: The named positions, ``(B, L)`` bool; those outside the mask
            do not count.
        tokens: Ids of the named tokens, in place of positions, looked up in
            the input ``(B, L)`` that is embedded; with an adapter written by
            hand in the only input of whole numbers that are no flags,
            ``"input_ids"`` where there are several.
        explanation: Name of an explanation, or scores ``(B, L)`` of your own.
        removal: How positions are taken away, by name or as a function; see
            :func:`leave_one_out_importance`.
        min_effect: Smallest flagged change, in units of the output, 0 or more.
        target: Class whose probability is watched, an int or ``(B,)``; None
            takes the total variation distance of the outputs.
        view: Which attention is the explanation; not needed for one row.
        seed: Seed of explanations that are drawn.
        instances: Ids ``(B,)`` of the rows, int64; default ``arange(B)``.

    Returns:
        A flag per instance with both weights and effects; nan where no position
        is named, or none is left, or no score is positive.

    Raises:
        AdapterError: If the model cannot remove positions, or breaks its contract.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, if both or none of positions
            and tokens are given, or it is not clear which input the tokens are in.

    References:
        Pruthi et al. (2020), "Learning to deceive with attention-based
        explanations", arXiv 1909.07913, for the models to be found; the rule
        is an addition.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> result = deception_screen(model, torch.tensor([[2, 5, 6, 7, 3]]), tokens=[6])
        >>> result.even_share, result.named
        (tensor([0.3333]), tensor([1]))
    """
    name = check_removal(removal)
    _check_effect(min_effect)
    with torch.no_grad():
        reading = read(model, inputs, view, replay=expected_replays(name), changes=changes(name))
        scores = scores_of(
            reading, explanation, target=target, seed=seed, instances=instances, removal=removal
        )
        mask = reading.rows.mask
        named = _named(reading, positions, tokens) & mask
        others = mask & ~named
        size = named.sum(1, keepdim=True)
        rivals = first_by_rank(falling_ranks(scores, others), others, size)
        effect, rival_effect = _effects(reading, removal, target, (named, rivals))
        single = _largest_single(reading, removal, target, named)
    share, rival_share = (_share(scores, mask, each) for each in (named, rivals))
    even = size[:, 0].to(share.dtype) / mask.sum(1)
    hidden = (share < even * (1 - _EVEN)) & (effect >= min_effect) & (effect > rival_effect)
    undefined = (share + effect + rival_effect).isnan() | (size[:, 0] == 0) | ~others.any(1)
    return DeceptionResult(
        **reading.described(),
        flagged=hidden.to(share.dtype).masked_fill(undefined, math.nan),
        share=share,
        even_share=even,
        effect=effect,
        largest_single=single,
        rival_share=rival_share,
        rival_effect=rival_effect,
        named=size[:, 0],
        min_effect=float(min_effect),
        explanation=name_of_explanation(explanation),
        removal=name,
    )


def _effects(
    reading: Reading, removal: Removal, target: int | Tensor | None, marks: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Changes ``(B,)`` of the output without each of two sets of positions."""
    every = torch.arange(len(marks[0]), device=marks[0].device)
    sets = Marked(every.repeat(2), torch.cat(marks))
    one, other = over_sets(reading, removal, sets, change_from(reading, target)).chunk(2)
    return one, other


def _largest_single(
    reading: Reading, removal: Removal, target: int | Tensor | None, named: Tensor
) -> Tensor:
    """Largest change ``(B,)`` without one of the named positions; nan where there is none."""
    rows, columns = named.nonzero(as_tuple=True)
    singles = Singles(rows, columns, named.shape[1])
    found = over_sets(reading, removal, singles, change_from(reading, target))
    largest = found.new_full((len(named),), -torch.inf).scatter_reduce(0, rows, found, "amax")
    return largest.masked_fill(~named.any(1), math.nan)


def _share(scores: Tensor, mask: Tensor, chosen: Tensor) -> Tensor:
    """Share ``(B,)`` of the positive scores; a nan stays."""
    positive = scores.clamp_min(0).masked_fill(~mask, 0)
    return (positive * chosen).sum(1) / positive.sum(1)


def _named(reading: Reading, positions: Tensor | None, tokens: Sequence[int] | None) -> Tensor:
    """The named positions ``(B, L)``."""
    mask = reading.rows.mask
    if (positions is None) == (tokens is None):
        got = "neither" if positions is None else "both"
        raise ValueError(f"positions or tokens must be given; got {got}. Pass one of them.")
    if positions is not None:
        return require_flags("positions", positions, "the mask", mask, "named")
    if isinstance(tokens, int) or not isinstance(tokens, Sequence) or not tokens:
        raise TypeError(f"tokens must be a list of ids; got {tokens!r}. Pass [id].")
    ids = [require_count("tokens", token, least=0) for token in tokens]
    found = token_ids(reading)
    if len(found) != 1:
        raise ValueError(
            "tokens must be ids of one integer input for the mask of shape "
            f"{tuple(mask.shape)}; got {len(found)} such inputs. "
            "Pass positions=(ids == token) instead."
        )
    wanted = torch.isin(found[0].to(mask.device), torch.tensor(ids, device=mask.device))
    return torch.nn.functional.pad(wanted, (0, mask.shape[1] - wanted.shape[1]))


def _check_effect(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"min_effect must be a number; got {value!r}. Pass a float.")
    if not 0 <= value < math.inf:
        raise ValueError(f"min_effect must be 0 or more, and finite; got {value}. Pass .1.")
