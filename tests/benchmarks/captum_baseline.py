"""Leave-one-out by masking beside Captum's FeatureAblation, which puts in the same thing.

Captum ablates one feature of all texts at a time and runs the model once for
each, or for several at once (``perturbations_per_eval``), which repeats the
whole batch. Features are the positions, as its tutorials have them: of the
embeddings with zeros as the baseline, and of the ids with a token as the
baseline. Both sides are compared before they are timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from captum.attr import FeatureAblation
from torch import Tensor

from faithattn import leave_one_out_importance
from faithattn.importance.leave_one_out import Removal
from faithattn.interventions.tokens import mask_token
from faithattn.paper.models import TextClassifier
from tests.benchmarks import data, loops
from tests.benchmarks.timing import Row, compared, seconds

_UNKNOWN = 4  # some word: what stands in the place of another does not matter here
_PER_EVAL = (1, 4, 16)
_WITHIN = 2e-6


def rows(smoke: bool) -> Iterator[Row]:
    """Captum by default, and at the best number of perturbations a call."""
    model = data.classifier(small=smoke)
    batches = data.sst_like(20)[:1] if smoke else data.sst_like(20)[7:15:6]
    ways: list[tuple[Removal, Callable[[TextClassifier, Tensor, int], Tensor]]] = [
        ("zero_embedding", _by_embeddings),
        (mask_token(_UNKNOWN), _by_ids),
    ]
    for removal, ablate in ways:
        yield from _rows(model, batches, removal, ablate, 1 if smoke else 3)


def _rows(
    model: TextClassifier,
    batches: list[Tensor],
    removal: Removal,
    ablate: Callable[[TextClassifier, Tensor, int], Tensor],
    repeats: int,
) -> Iterator[Row]:
    for ids in batches:
        _same(leave_one_out_importance(model, ids, removal=removal), ablate(model, ids, 1), ids)
    spent = {
        many: seconds(lambda many=many: [ablate(model, ids, many) for ids in batches])
        for many in _PER_EVAL
    }
    best = min(spent, key=spent.__getitem__)
    name = removal if isinstance(removal, str) else "mask_token"
    for many in sorted({1, best}):
        yield compared(
            f"leave_one_out_importance, {name}",
            lambda: [leave_one_out_importance(model, ids, removal=removal) for ids in batches],
            lambda many=many: [ablate(model, ids, many) for ids in batches],
            repeats,
            f"Captum, {many} per eval",
            unit="bare",
            limit=lambda: [_bare(model, ids) for ids in batches],
        )


def _by_embeddings(model: TextClassifier, ids: Tensor, many: int) -> Tensor:
    def outputs(vectors: Tensor, inputs: Tensor) -> Tensor:
        return loops.encoded(model, inputs, vectors).original[:, 0]

    features = torch.arange(ids.shape[1])[None, :, None]
    with torch.no_grad():
        vectors = model.embedding(ids)
        found = FeatureAblation(outputs).attribute(
            vectors,
            baselines=0.0,
            additional_forward_args=(ids,),
            feature_mask=features.expand(1, *vectors.shape[1:]),
            perturbations_per_eval=many,
        )
    return found[..., 0].abs()


def _by_ids(model: TextClassifier, ids: Tensor, many: int) -> Tensor:
    with torch.no_grad():
        # Not model(ids): ablated padding is no valid input to it, nor looked at afterwards.
        found = FeatureAblation(
            lambda inputs: loops.encoded(model, inputs).original[:, 0]
        ).attribute(ids, baselines=_UNKNOWN, perturbations_per_eval=many)
    return found.abs()


def _same(ours: Tensor, theirs: Tensor, ids: Tensor) -> None:
    words = ids > 3
    worst = float((ours - theirs)[words].abs().max())
    if not worst <= _WITHIN:
        raise RuntimeError(f"Captum and leave_one_out_importance must agree; differ by {worst:.2g}")


def _bare(model: TextClassifier, ids: Tensor) -> None:
    """As many forward passes of each text as it has words, in large batches, nothing changed."""
    texts = [row[row != 0] for row in ids]
    repeated = [text for text in texts for _ in range(len(text) - 2)]
    with torch.no_grad():
        for start in range(0, len(repeated), 128):
            model(torch.nn.utils.rnn.pad_sequence(repeated[start : start + 128], batch_first=True))
