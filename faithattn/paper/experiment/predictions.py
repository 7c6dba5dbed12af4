"""Which of several labels a model says hold."""

from __future__ import annotations

import torch

from faithattn.adapters.state import evaluating
from faithattn.paper.data.portions import portions
from faithattn.paper.experiment.preparation import Prepared
from faithattn.paper.training.evaluation import collated, text_length


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
    model, examples = prepared.model, prepared.examples
    # Texts of one length waste no work on padding.
    order = sorted(range(len(examples)), key=lambda place: text_length(examples[place]))
    lengths = [text_length(examples[place]) for place in order]
    found: dict[int, tuple[int, ...]] = {}
    with evaluating(model), torch.no_grad():
        for part in portions(lengths, prepared.settings.batch_size):
            places = order[part.start : part.stop]
            inputs, _ = collated(model, [examples[place] for place in places], prepared.collate)
            for place, logits in zip(places, model(inputs), strict=True):
                found[place] = tuple((logits > 0).nonzero()[:, 0].tolist())
    return tuple(found[place] for place in range(len(order)))
