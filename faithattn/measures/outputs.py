"""From logits to probabilities, and how far two outputs are apart."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.measures.divergence import jensen_shannon, variation

OUTPUTS = ("auto", "sigmoid", "softmax", "identity")


def resolve_output(output: str, n_outputs: int) -> str:
    """Returns what ``auto`` stands for: one logit is a sigmoid, several a softmax."""
    if output not in OUTPUTS:
        raise ValueError(
            f"output must be one of {', '.join(OUTPUTS)}; got {output!r}. "
            "Set it on the adapter or in adapt(...)."
        )
    if output == "auto":
        return "sigmoid" if n_outputs == 1 else "softmax"
    return output


def probabilities(logits: Tensor, output: str) -> Tensor:
    """Squashes ``(..., C)`` logits; half precision is widened first."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if output == "sigmoid":
        return wide.sigmoid()
    return wide.softmax(-1) if output == "softmax" else wide


def output_distance(p: Tensor, q: Tensor, output: str) -> Tensor:
    """Total variation of outputs ``(..., C) -> (...)``.

    One sigmoid is the two-class distribution, so the distance is |p - q|;
    several are independent labels, whose distances are averaged; regression
    outputs give the mean absolute difference in their own units.
    """
    if output == "softmax":
        return variation(p, q)
    change = (p - q).abs()
    return change.squeeze(-1) if change.shape[-1] == 1 else change.mean(-1)


def output_divergence(p: Tensor, q: Tensor, output: str) -> Tensor:
    """Jensen-Shannon divergence of outputs ``(..., C) -> (...)``, in nats.

    One sigmoid is the two-class distribution; several are independent labels,
    whose divergences are averaged. Regression outputs are no distributions:
    there it is their distance. Computed in double precision: of outputs that
    hardly differ it is as small as the square of the difference.
    """
    if output == "identity":
        return output_distance(p, q, output)
    wide = [each if each.device.type == "mps" else each.double() for each in (p, q)]
    if output == "softmax":
        return jensen_shannon(*wide).to(p.dtype)
    pairs = [torch.stack([each, 1 - each], -1) for each in wide]
    return jensen_shannon(*pairs).mean(-1).to(p.dtype)


def predicted_class(outputs: Tensor, output: str) -> Tensor:
    """The predicted class ``(B,)``; -1 where there is none (labels, regression)."""
    if output == "softmax":
        return outputs.argmax(-1)
    if output == "sigmoid" and outputs.shape[-1] == 1:
        return (outputs[..., 0] > 0.5).long()
    return outputs.new_full(outputs.shape[:-1], -1, dtype=torch.long)


def class_probability(outputs: Tensor, target: Tensor, output: str) -> Tensor:
    """The probability of class ``target`` (B,), broadcast over leading dimensions."""
    if output == "sigmoid" and outputs.shape[-1] == 1:
        positive = outputs[..., 0]
        return torch.where(target == 1, positive, 1 - positive)
    index = target.expand(outputs.shape[:-1]).unsqueeze(-1)
    return outputs.gather(-1, index).squeeze(-1)


def class_log_odds(logits: Tensor, target: Tensor, output: str) -> Tensor:
    """Log-odds ln(p / (1 - p)) of class ``target`` (B,), from logits ``(..., B, C)``.

    Finite where the probability itself is rounded to 0 or 1; nan for regression.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    index = target.expand(wide.shape[:-1]).unsqueeze(-1)
    if output == "identity":
        return wide.new_full(wide.shape[:-1], torch.nan)
    if output == "sigmoid":
        if wide.shape[-1] == 1:
            return torch.where(target == 1, wide[..., 0], -wide[..., 0])
        return wide.gather(-1, index).squeeze(-1)
    others = wide.scatter(-1, index, -torch.inf)
    return wide.gather(-1, index).squeeze(-1) - others.logsumexp(-1)
