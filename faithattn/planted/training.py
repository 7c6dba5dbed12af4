"""Small texts and a short training for the planted models that are learned."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from faithattn.paper.data.ids import END
from faithattn.paper.models import TextClassifier
from faithattn.paper.models.common import SITE
from faithattn.paper.training import build

FIRST = END + 1
_BATCH = 64


class Texts(NamedTuple):
    """Ids (B, L), how likely class 1 is (B,), and the positions that decide it (B, L)."""

    ids: Tensor
    labels: Tensor
    evidence: Tensor


def words(size: int, length: int, vocabulary: int, generator: torch.Generator) -> Tensor:
    """Random words (size, length) of a vocabulary that begins after the special tokens."""
    return torch.randint(FIRST, FIRST + vocabulary, (size, length), generator=generator)


def fit(
    encoder: str,
    texts: Texts,
    *,
    vocabulary: int,
    steps: int,
    seed: int,
    penalty: float = 0.0,
    size: int = 16,
) -> TextClassifier:
    """Trains the published classifier, in small.

    Args:
        encoder: ``"bilstm"``, ``"cnn"`` or ``"average"``.
        texts: What to learn from; batches of 64 are drawn from it.
        vocabulary: Number of words.
        steps: Steps of Adam.
        seed: Seed of the first weights and of the batches.
        penalty: Factor of -ln(1 - attention on the evidence), added to the
            loss: Pruthi et al. (2020), equation 1.
        size: Features of an embedding, and of each direction of the encoder.

    Returns:
        The model in eval mode; the global random state is left alone.
    """
    model = build(
        lambda: TextClassifier(
            FIRST + vocabulary, encoder=encoder, embedding_size=size, hidden_size=size
        ),
        seed=seed,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(texts.ids), (_BATCH,), generator=generator)
        with torch.enable_grad():
            run = model.run(texts.ids[rows])
            loss = F.binary_cross_entropy_with_logits(run.logits[:, 0], texts.labels[rows].float())
            if penalty:
                loss = loss + penalty * _deception(run.attention[SITE], texts.evidence[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
        optimizer.step()
    return model.eval()


def _deception(attention: Tensor, impermissible: Tensor) -> Tensor:
    """Mean of -ln(1 - attention on the impermissible positions); 0 where it has none."""
    mass = (attention * impermissible).sum(-1)
    return -torch.log1p(-mass.clamp(max=1 - 1e-6)).mean()
