"""Leave-one-out importance: what the output does when a position goes."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor

from faithattn.adapters.reading import Reading, read
from faithattn.adapters.view import AttentionView
from faithattn.importance.removal.changes import change_from, fall_from
from faithattn.importance.removal.naming import InputRemoval, name_of
from faithattn.importance.removal.operators import REMOVALS
from faithattn.importance.removal.outputs import over_sets
from faithattn.importance.removal.sets import Singles

Removal: TypeAlias = "str | InputRemoval"
_SHORT_TEXT = 16  # positions; longer texts only make recording more worthwhile


def leave_one_out_importance(
    model: object,
    inputs: Any,
    *,
    removal: Removal = "delete",
    view: AttentionView | None = None,
    target: int | Tensor | None = None,
    signed: bool = False,
) -> Tensor:
    """Importance of each position by the change of output without it.

    The change is the total variation distance between the two outputs; with a
    target, the absolute change of that class's probability; signed, how far
    that probability falls.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        removal: How a position is taken away; they can disagree.
            ``"delete"`` (published): the input is really shortened by one and
            encoded again. ``"mask_token"``: its token becomes the mask token
            of the model's tokenizer. ``"mask_attention"``: its attention
            weight becomes 0, the other weights stay.
            ``"mask_attention_renormalize"``: the other weights are divided by
            their sum. ``"zero_embedding"``: its embedding becomes 0.
            ``"mean_embedding"``: its embedding becomes the mean over the
            positions of the instance that can be explained, which is nearer
            to what the model knows than 0 and does not depend on the batch.
            ``"resample"``: its embedding becomes that of another position of
            the batch, in another instance where there is one; the mean of 5
            draws, which are fixed, but depend on the batch by definition. A
            function ``(inputs, positions (B,)) -> inputs`` changes one
            position of each row in its own way, such as
            ``mask_token(103)`` or ``mask_patch(16)``.
        view: Which attention is changed; not needed for one row.
        target: Class to explain, an int or ``(B,)``; None compares outputs,
            and is the predicted class where signed.
        signed: Whether importance is p(x) - p(x without the position), which
            is negative where the position speaks against the class.

    Returns:
        Importance ``(B, L)``, 0..1 for classes (-1..1 signed), 0 outside the
        mask; nan where nothing would be left (a text of one position under
        ``"delete"``) or there is nothing to put in its place.

    Raises:
        AdapterError: If the model cannot remove a position this way.
        TypeError: If ``removal`` is no name and no function.
        ValueError: If ``removal`` is unknown, ``target`` is no class, or
            several outputs have no predicted one to be signed for.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", section 4.1.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> leave_one_out_importance(model, torch.tensor([[2, 5, 6, 7, 3]])).shape
        torch.Size([1, 5])
    """
    name = check_removal(removal)
    with torch.no_grad():
        reading = read(model, inputs, view, replay=expected_replays(name), changes=changes(name))
        return leave_one_out_of(reading, removal, target, signed=signed)


def check_removal(removal: Removal) -> str:
    """The name of a removal; raises for an unknown one."""
    if isinstance(removal, str):
        if removal not in REMOVALS:
            raise ValueError(
                f"removal must be one of {', '.join(REMOVALS)}, or a function (inputs, positions) "
                f"-> inputs; got {removal!r}. The published tests delete."
            )
        return removal
    if not callable(removal):
        raise TypeError(
            "removal must be a name or a function (inputs, positions) -> inputs; "
            f"got {type(removal).__name__}. Use one of {', '.join(REMOVALS)}."
        )
    name = name_of(removal)
    if name in (*REMOVALS, "mask_patch"):
        raise ValueError(
            f"removal must not be a function of the name of another removal; got {name!r}. "
            "Pass the name itself, rename the function, or call it first, as in mask_patch(16)."
        )
    return name


def expected_replays(name: str) -> int:
    """How many outputs under other attention a removal asks for, at least."""
    return _SHORT_TEXT if name.startswith("mask_attention") else 0


def changes(name: str) -> bool:
    """Whether a removal runs changed inputs."""
    return expected_replays(name) == 0


def leave_one_out_of(
    reading: Reading, removal: Removal, target: int | Tensor | None, *, signed: bool = False
) -> Tensor:
    """Leave-one-out importance from a reading; see :func:`leave_one_out_importance`."""
    mask = reading.rows.mask
    importance = torch.zeros(mask.shape, dtype=reading.outputs.dtype, device=mask.device)
    rows, positions = mask.nonzero(as_tuple=True)
    singles = Singles(rows, positions, mask.shape[1])
    change = (fall_from if signed else change_from)(reading, target)
    importance[rows, positions] = over_sets(reading, removal, singles, change)
    return importance


def both_leave_one_out_of(
    reading: Reading, removal: Removal, target: int | Tensor | None
) -> tuple[Tensor, Tensor]:
    """Unsigned and signed importance from the same outputs; see :func:`leave_one_out_of`."""
    mask = reading.rows.mask
    both = torch.zeros(*mask.shape, 2, dtype=reading.outputs.dtype, device=mask.device)
    rows, positions = mask.nonzero(as_tuple=True)
    singles = Singles(rows, positions, mask.shape[1])
    change, fall = change_from(reading, target), fall_from(reading, target)

    def reduce(logits: Tensor, at: Tensor) -> Tensor:
        return torch.stack([change(logits, at), fall(logits, at)], -1)

    both[rows, positions] = over_sets(reading, removal, singles, reduce, (2,))
    unsigned, signed = both.unbind(-1)
    return unsigned, signed
