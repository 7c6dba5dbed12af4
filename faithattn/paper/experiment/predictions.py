"""Which of several labels a model says hold."""

from __future__ import annotations

import torch

from faithattn.adapters.state import evaluating
from faithattn.paper.experiment.preparation import Prepared
from faithattn.paper.training.evaluation import collated


def predicted_labels(prepared: Prepared) -> tuple[tuple[int, ...], ...] | None:
    """The labels of each tested instance whose probability is above one half.

    Args:
        prepared: A trained model and its data.

    Returns:
        Indices of labels, ascending, in the order of the instances; None for
        data that have one class.
    """
    if prepared.dataset.kind != "labels":
        return None
    model, size = prepared.model, prepared.settings.batch_size
    # Texts of one length waste no work on padding.
    order = sorted(range(len(prepared.examples)), key=lambda p: len(prepared.examples[p].tokens))
    found: dict[int, tuple[int, ...]] = {}
    with evaluating(model), torch.no_grad():
        for start in range(0, len(order), size):
            places = order[start : start + size]
            batch = [prepared.examples[place] for place in places]
            inputs, _ = collated(model, batch, prepared.collate)
            for place, logits in zip(places, model(inputs), strict=True):
                found[place] = tuple((logits > 0).nonzero()[:, 0].tolist())
    return tuple(found[place] for place in range(len(order)))
