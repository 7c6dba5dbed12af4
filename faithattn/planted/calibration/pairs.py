"""Pairs of known relative faithfulness: two models at the same output, or two explanations."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from faithattn.planted.compensating import Compensating, draw_texts

KINDS = ("models", "explanations")


@dataclass(frozen=True, eq=False)
class Setting:
    """The pairs of one length and depth, as a batch of ``n_pairs * largest size`` texts.

    Text ``k * n_pairs + p`` is number k of pair p, so that a pair has the
    same texts whatever the other sizes are.

    Attributes:
        length: Words of a text.
        depth: Layers of mixing.
        ids: The texts, ``(n_pairs * largest size, length)``.
        models: The models by how far their output does without attention.
        explanations: Scores by the share of positions whose scores were
            shuffled, each ``(n_pairs * largest size, length)``.
    """

    length: int
    depth: int
    ids: Tensor
    models: dict[float, Compensating]
    explanations: dict[float, Tensor]


def make_setting(
    length: int,
    depth: int,
    *,
    contrasts: tuple[float, ...],
    n_pairs: int,
    most: int,
    seed: int,
) -> Setting:
    """Makes the pairs of one length and depth; ``most`` is the largest size."""
    drawn = random.Random(f"calibration {seed} {length} {depth}").getrandbits(62)
    n_words = max(200, length)
    models = {
        unused: Compensating(depth=depth, unused=unused, n_words=n_words, seed=drawn)
        for unused in (0.0, *contrasts)
    }
    generator = torch.Generator().manual_seed(drawn + 1)
    ids = torch.cat([draw_texts(n_pairs, length, n_words, generator) for _ in range(most)])
    truth = models[0.0].truth(ids)
    generator = torch.Generator().manual_seed(drawn + 2)
    # One order for all contrasts: what a smaller one spoils, a larger one spoils too.
    order = torch.cat(
        [torch.rand(n_pairs, length, generator=generator).argsort(-1) for _ in range(most)]
    )
    explanations = {share: spoiled(truth, order, share) for share in (0.0, *contrasts)}
    return Setting(length, depth, ids, models, explanations)


def spoiled(scores: Tensor, order: Tensor, share: float) -> Tensor:
    """Passes the scores of a share of the positions around, so that none keeps its own.

    Args:
        scores: Scores, shape ``(B, L)``.
        order: A permutation of the positions in each row, shape ``(B, L)``;
            its first places are those that are spoiled.
        share: Share of the positions, 0..1; two at least where it is not 0.

    Returns:
        The scores, shape ``(B, L)``.
    """
    count = 0 if share == 0 else max(2, round(share * scores.shape[1]))
    places = order[:, :count]
    return scores.scatter(1, places, scores.gather(1, places.roll(1, -1)))
