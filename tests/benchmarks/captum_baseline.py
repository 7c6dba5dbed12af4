"""Leave-one-out by masking beside Captum's FeatureAblation, which puts in the same thing.

Captum ablates one feature of all texts at a time and runs the model once for
each, or for several at once (``perturbations_per_eval``), which repeats the
whole batch. Features are the positions, as its tutorials have them: of the
embeddings with zeros as the baseline, and of the ids with a token as the
baseline. Both sides are compared before they are timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from captum.attr import FeatureAblation
from torch import Tensor

from faithattn import AttentionView, adapt, leave_one_out_importance
from faithattn.importance.leave_one_out import Removal
from faithattn.interventions.tokens import mask_token
from faithattn.paper.models import TextClassifier
from tests.benchmarks import data, loops, models
from tests.benchmarks.timing import Row, compared, seconds

_UNKNOWN = 4  # some word: what stands in the place of another does not matter here
_PER_EVAL = (1, 4, 16, 64)
_WITHIN = 2e-6
_DEFAULT, _BEST = 1 / 3, 1.0  # of Captum's time: as called by default, and at its best

Ablate = Callable[[Any, int], Tensor]  # a batch, perturbations per call
Bare = Callable[[Any], None]


def rows(smoke: bool) -> Iterator[Row | str]:
    """Captum by default, and at the best number of perturbations a call."""
    model = data.classifier(small=smoke)
    repeats = 1 if smoke else 3
    ways: list[tuple[Removal, Callable[[TextClassifier, Tensor, int], Tensor]]] = [
        ("zero_embedding", _by_embeddings),
        (mask_token(_UNKNOWN), _by_ids),
    ]
    for name, batches in _batches(smoke).items():
        for removal, ablate in ways:
            yield from _rows(
                f"BiLSTM, {name}",
                lambda ids, removal=removal: leave_one_out_importance(model, ids, removal=removal),
                lambda ids, many, ablate=ablate: ablate(model, ids, many),
                lambda ids: _bare(model, ids),
                (batches, removal, repeats),
            )
    if models.HAS_TRANSFORMERS and not smoke:
        yield from _transformer(repeats)


def _batches(smoke: bool) -> dict[str, list[Tensor]]:
    """Texts as loaders give them: by length or not, many at once or each by itself."""
    if smoke:
        return {"32 by length": data.sst_like(20)[:1]}
    by_length = data.sst_like(20)
    texts = [row[row != 0] for ids in by_length for row in ids]
    generator = torch.Generator().manual_seed(1)
    mixed = [texts[at] for at in torch.randperm(len(texts), generator=generator).tolist()]
    return {
        "32 by length": by_length[7:15:6],
        "32 mixed": [_padded(mixed[:32]), _padded(mixed[32:64])],
        "8 by length": [_padded(texts[at : at + 8]) for at in range(40, 600, 80)],
        "8 mixed": [_padded(mixed[at : at + 8]) for at in range(0, 56, 8)],
        "one each": [text[None] for text in mixed[:32]],
    }


def _padded(texts: list[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)


def _transformer(repeats: int) -> Iterator[Row]:
    """A small random BERT, by its ids: 16 texts of 12 to 24 tokens at once, and each by itself."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=2000,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=512,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.BertForSequenceClassification(config).eval()
    adapted, removal = adapt(model), mask_token(_UNKNOWN)
    view = AttentionView("bert.encoder.layer.1.attention.self", query=0)
    ids = models.texts(16, 24) % 1999
    several = [{"input_ids": ids, "attention_mask": (ids != 0).long()}]
    alone = [{key: each[row : row + 1, : int((ids[row] != 0).sum())]
              for key, each in several[0].items()} for row in range(16)]  # fmt: skip

    def output(ids: Tensor, marks: Tensor) -> Tensor:
        return model(input_ids=ids, attention_mask=marks).logits.softmax(-1)[:, 0]

    def ablate(inputs: dict[str, Tensor], many: int) -> Tensor:
        with torch.no_grad():
            found = FeatureAblation(output).attribute(
                inputs["input_ids"],
                baselines=_UNKNOWN,
                additional_forward_args=(inputs["attention_mask"],),
                perturbations_per_eval=many,
            )
        return found.abs()

    def bare(inputs: dict[str, Tensor]) -> None:
        texts = [row[row != 0] for row in inputs["input_ids"]]
        repeated = [text for text in texts for _ in text]
        with torch.no_grad():
            for start in range(0, len(repeated), 128):
                ids = _padded(repeated[start : start + 128])
                model(input_ids=ids, attention_mask=(ids != 0).long())

    for name, batches in (("16 mixed", several), ("one each", alone)):
        yield from _rows(
            f"small BERT, {name}",
            lambda inputs: leave_one_out_importance(adapted, inputs, removal=removal, view=view),
            ablate,
            bare,
            (batches, removal, repeats),
        )


def _rows(
    name: str,
    ours: Callable[[Any], Tensor],
    ablate: Ablate,
    bare: Bare,
    how: tuple[list[Any], Removal, int],
) -> Iterator[Row]:
    batches, removal, repeats = how
    for inputs in batches:
        ids = inputs["input_ids"] if isinstance(inputs, dict) else inputs
        _same(ours(inputs), ablate(inputs, 1), ids)
    spent = {
        many: seconds(lambda many=many: [ablate(inputs, many) for inputs in batches])
        for many in _PER_EVAL
    }
    best = min(spent, key=spent.__getitem__)
    called = removal if isinstance(removal, str) else "mask_token"
    for many in sorted({1, best}):
        yield compared(
            f"leave_one_out_importance, {called}, {name}",
            lambda: [ours(inputs) for inputs in batches],
            lambda many=many: [ablate(inputs, many) for inputs in batches],
            repeats,
            "Captum, 1 per eval, the default"
            if many == 1
            else f"Captum, {many} per eval, its best",
            _DEFAULT if many == 1 else _BEST,
            unit="bare",
            limit=lambda: [bare(inputs) for inputs in batches],
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
