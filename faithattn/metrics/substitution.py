"""How far does the output move when attention of the caller's own is put in?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from faithattn._checks import require_device, require_floating
from faithattn.adapters.reading import Reading, read
from faithattn.adapters.rows import Rows
from faithattn.adapters.view import AttentionView
from faithattn.measures.divergence import jensen_shannon
from faithattn.measures.outputs import output_distance, predicted_class
from faithattn.results.substitution import SubstitutionResult


def attention_substitution(
    model: object,
    inputs: Any,
    attention: Tensor,
    *,
    view: AttentionView | None = None,
) -> SubstitutionResult:
    """Output change when given attention takes the place of the model's own.

    The attention may come from anywhere: log-odds of words, another model, the
    annotation of people. The encoder runs once; the states stay fixed. As
    in every intervention here, each row is normalised over the positions that
    it may use and then given the mass that the model's row has there; what a
    row has elsewhere stays. So only the distribution is compared, not its sum.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        attention: Weights of 0 or more, floating point, that need not sum to 1:
            ``(B, L)``, put into every row; or in the shape of the site, of
            which the rows of the view are taken; of S sites ``(B, S, ..., L)``
            in the order of the view, as ``AdversarialResult.strongest`` gives.
            Values where a row may not look are never looked at.
        view: Which attention is replaced; not needed for one row.

    Returns:
        Divergence of the rows (nats, 0..ln 2, mean over rows), distance of the
        outputs in 0..1 and whether the predicted class changes, ``(B,)`` each;
        nan with fewer than two positions.

    Raises:
        AdapterError: If the model breaks its contract.
        TypeError: If the attention is not floating point.
        ValueError: If its shape or device does not fit, a weight is negative
            or not finite, or a row has none where it may look.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", for attention
        that is put in and the two distances.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> ids = torch.tensor([[2, 5, 6, 7, 3]])
        >>> own = model.run(ids).attention["attention"]
        >>> result = attention_substitution(model, ids, own)
        >>> torch.allclose(result.tvd, torch.zeros(1), atol=1e-6), result.flipped
        (True, tensor([0.]))
    """
    given = require_floating("attention", attention).detach()
    with torch.inference_mode(False), torch.no_grad():
        reading = read(model, inputs, view, replay=1)
        return substitution_of(reading, _normalised(_chosen(given, reading.rows), reading.rows))


def substitution_of(reading: Reading, conditional: Tensor) -> SubstitutionResult:
    """What rows ``(B, R, L)``, each a distribution over its valid positions, do in a reading."""
    rows = reading.rows
    outputs = reading.replay(conditional.to(rows.conditional.dtype)[None])[0]
    tvd = output_distance(outputs, reading.outputs, reading.output)
    # Of rows that hardly differ the divergence is the square of a small number.
    jsd = rows.mean(jensen_shannon(conditional, rows.conditional.to(conditional.dtype)))
    flipped = (predicted_class(outputs, reading.output) != reading.predicted).to(tvd.dtype)
    undefined = ~(rows.valid.sum(-1) > 1).any(-1)
    return SubstitutionResult(
        **reading.described(),
        tvd=tvd.masked_fill(undefined, torch.nan),
        jsd=jsd.to(tvd.dtype).masked_fill(undefined, torch.nan),
        flipped=flipped.masked_fill(undefined | (reading.predicted < 0), torch.nan),
    )


def _chosen(given: Tensor, rows: Rows) -> Tensor:
    """The given weights of each row of the view, ``(B, R, L)``."""
    sites = rows.attention
    first = next(iter(sites.values()))
    size, count, length = rows.conditional.shape
    require_device("attention", given, "the model's", first)
    if given.shape == (size, length):
        return given[:, None].expand(size, count, length)
    shape = tuple(first.shape) if len(sites) == 1 else (size, len(sites), *first.shape[1:])
    if given.shape != shape:
        either = f", for every row alike, or {shape}" if shape != (size, length) else ""
        raise ValueError(
            f"attention must have shape {(size, length)}{either}; got {tuple(given.shape)}. "
            "Give one weight a position of the padded batch."
        )
    if len(sites) == 1:
        return rows.of(dict.fromkeys(sites, given))
    return rows.of({name: given[:, place] for place, name in enumerate(sites)})


def _normalised(given: Tensor, rows: Rows) -> Tensor:
    """Checks weights ``(B, R, L)`` and makes each row a distribution, in double precision."""
    wide = given if given.device.type == "mps" else given.double()
    wide = wide.masked_fill(~rows.valid, 0)
    wrong = ~((wide >= 0) & wide.isfinite())
    if wrong.any():
        raise ValueError(
            "attention must be finite and 0 or more where a row may look; got "
            f"{float(wide[wrong][0]):.4g} in instance {_first_instance(wrong)}. "
            "Pass weights, not scores: take their softmax first."
        )
    largest = wide.amax(-1, keepdim=True)
    empty = (largest <= 0) & rows.valid.any(-1, keepdim=True)
    if empty.any():
        raise ValueError(
            "attention must have weight where each row may look; got none in instance "
            f"{_first_instance(empty)}. Choose other rows with view=, or give all positions some."
        )
    # The sum of large weights could overflow, and that of tiny ones be rounded away.
    wide = wide / largest.where(largest > 0, 1)
    return wide / wide.sum(-1, keepdim=True).clamp_min(1)


def _first_instance(flags: Tensor) -> int:
    return int(flags.flatten(1).any(1).nonzero()[0, 0])
