"""Baselines, and which method works on which kind of model: the table of docs/captum.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import planted
import pytest
import torch
from attributed_models import IDS, Rectified
from cases import make_case
from torch import Tensor, nn

from faithattn import (
    AdapterError,
    AttentionView,
    adapt,
    captum_attribution,
    captum_importance,
    gradient_importance,
)
from faithattn.adapters.reading import read
from faithattn.importance.attribution.explained import Forward, Hooked, explained
from faithattn.importance.attribution.methods import METHODS

PAGE = Path(__file__).parents[3] / "docs" / "captum.md"
BERT_IDS = torch.tensor([[2, 8, 9, 10, 3], [2, 11, 12, 3, 0], [2, 13, 14, 15, 3]])
CLS = AttentionView("bert.encoder.layer.1.attention.self", query=0)


def bert() -> Any:
    """A small BERT whose special tokens are not explained."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        initializer_range=0.6,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.BertForSequenceClassification(config).double().eval()
    return adapt(model, mask=lambda inputs: inputs["input_ids"] > 3)


def bert_inputs() -> dict[str, Tensor]:
    return {"input_ids": BERT_IDS, "attention_mask": (BERT_IDS != 0).long()}


class Patches(nn.Module):
    """An image cut into four patches by a convolution, and attention over them."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(2)
            self.cut = nn.Conv2d(1, 4, 2, stride=2)
            self.score = nn.Linear(4, 1)
            self.out = nn.Linear(4, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = self.cut(image).flatten(2).transpose(1, 2)
        return self.out((self.score(x).softmax(1) * x.tanh()).sum(1))


KINDS = {
    "additive scores": lambda: (planted.Linear(), planted.faithful(3, 4)[1], {}),
    "BiLSTM": lambda: (
        make_case("text-bilstm-additive").model,
        make_case("text-bilstm-additive").inputs,
        {},
    ),
    "two texts": lambda: (
        make_case("question-cnn-additive").model,
        make_case("question-cnn-additive").inputs,
        {},
    ),
    "ReLU modules": lambda: (adapt(Rectified()), IDS, {}),
    "ReLU modules, attention held": lambda: (adapt(Rectified()), IDS, {"detach_attention": True}),
    "BERT": lambda: (bert(), bert_inputs(), {"view": CLS}),
    "image": lambda: (adapt(Patches()), torch.randn(3, 1, 4, 4, generator=torch.Generator()), {}),
}
FEW = {"shapley_value_sampling": 2, "lime": 6, "kernel_shap": 6}


def works(kind: str, method: str) -> bool:
    model, inputs, options = KINDS[kind]()
    if method in FEW:
        options = {**options, "n_samples": FEW[method]}
    try:
        found = captum_importance(model, inputs, method=method, **options)
    except AdapterError as error:
        assert str(error).count(". ") == 1, f"one sentence and a remedy: {error}"
        return False
    # A position that no other text has cannot be exchanged.
    assert found.isfinite().all() or method == "feature_permutation"
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_of_the_page_is_what_happens(kind: str) -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    start = next(i for i, line in enumerate(lines) if "additive scores" in line)
    head = [cell.strip() for cell in lines[start].strip("|").split("|")]
    rows = {}
    for line in lines[start + 2 :]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].strip("`") not in METHODS:
            break
        rows[cells[0].strip("`")] = cells[head.index(kind)]
    assert list(rows) == list(METHODS)
    assert rows == {method: "yes" if works(kind, method) else "no" for method in METHODS}


def test_reasons_name_what_the_rules_do_not_reach() -> None:
    case = make_case("text-bilstm-additive")
    with pytest.raises(AdapterError, match=r"DeepLift must sum to .*products.*softmax.*hold the"):
        captum_importance(case.model, case.inputs, method="deep_lift")
    with pytest.raises(AdapterError, match="got 1 ReLU, 0 of them by modules"):
        captum_importance(adapt(Rectified(module=False)), IDS, method="guided_backprop")

    class Half(Rectified):
        def states(self, x: Tensor) -> Tensor:
            return (super().states(x) - 0.1).relu()

    with pytest.raises(AdapterError, match="got 2 ReLU, 1 of them by modules"):
        captum_importance(adapt(Half()), IDS, method="guided_backprop")
    with pytest.raises(AdapterError, match=r"otherwise: ReLU\. Use 'integrated_gradients'\.$"):
        captum_importance(
            adapt(Rectified(module=False)), IDS, method="deep_lift", detach_attention=True
        )
    with pytest.raises(AdapterError, match=r"module is being used more than once|must sum to"):
        captum_importance(
            adapt(Rectified(twice=True)), IDS, method="deep_lift", detach_attention=True
        )
    answerer = make_case("question-cnn-additive")
    with pytest.raises(AdapterError, match="must call 'embedding' once"):
        captum_importance(answerer.model, answerer.inputs, method="layer_integrated_gradients")


def test_a_gap_may_be_allowed_and_is_told() -> None:
    case = make_case("text-bilstm-additive")
    result = captum_attribution(case.model, case.inputs, method="deep_lift", max_gap=torch.inf)
    assert result.importance.isfinite().all() and float(result.delta.abs().max()) > 1e-4


def test_special_tokens_of_a_transformer_keep_their_embeddings() -> None:
    """Integrated gradients by hand, from embeddings that are zero at the words alone."""
    adapter, inputs = bert(), bert_inputs()
    words = BERT_IDS > 3
    found = captum_importance(adapter, inputs, view=CLS, n_steps=8, target=1)
    model = adapter.model
    table = model.bert.embeddings.word_embeddings(BERT_IDS).detach()
    nodes, sizes = map(torch.from_numpy, np.polynomial.legendre.leggauss(8))
    total = torch.zeros_like(table)
    for node, size in zip((nodes + 1) / 2, sizes / 2, strict=True):
        x = torch.where(words[..., None], node * table, table).requires_grad_()
        logits = model(inputs_embeds=x, attention_mask=inputs["attention_mask"]).logits
        (gradient,) = torch.autograd.grad(logits.softmax(1)[:, 1].sum(), x)
        total += size * gradient
    expected = (total * table).sum(-1) * words
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    layered = captum_importance(
        adapter, inputs, view=CLS, n_steps=8, target=1, method="layer_integrated_gradients"
    )
    torch.testing.assert_close(layered, found, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", ["text-bilstm-additive", "text-cnn-scaled_dot"])
def test_the_layers_integrated_gradients_are_those_of_the_features(name: str) -> None:
    case = make_case(name)
    options = {"n_steps": 10, "baseline": torch.full((5,), 0.2).double()}
    features = captum_attribution(case.model, case.inputs, **options)
    layer = captum_attribution(
        case.model, case.inputs, method="layer_integrated_gradients", **options
    )
    torch.testing.assert_close(layer.importance, features.importance, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(layer.delta, features.delta, rtol=1e-6, atol=1e-9)


def test_baselines_by_name_and_by_hand() -> None:
    class Tokenizer:
        mask_token_id, pad_token_id, unk_token_id, all_special_ids = 2, 0, 1, [0, 1, 2]

        def __call__(self, *_: Any) -> None: ...

        def convert_ids_to_tokens(self, ids: Any) -> Any: ...

    model = Rectified()
    plain, ids = adapt(model), IDS
    known = adapt(model, mask=Tokenizer())
    weight = model.embed.weight.detach()
    x, real = weight[ids], (ids != 0)[..., None]
    mean = (x * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)
    vectors = {"zero": torch.zeros(4).double(), "pad": weight[0], "mask": weight[2]}
    for name, vector in vectors.items():
        adapter = known if name == "mask" else plain
        found = captum_attribution(adapter, ids, method="feature_ablation", baseline=name)
        hand = captum_importance(adapter, ids, method="feature_ablation", baseline=vector)
        assert found.baseline == name and torch.equal(found.importance, hand)
    by_mean = captum_importance(plain, ids, method="feature_ablation", baseline="mean")
    for given in (mean.expand_as(x), mean.expand_as(x).clone()):
        hand = captum_importance(plain, ids, method="feature_ablation", baseline=given)
        torch.testing.assert_close(by_mean, hand, rtol=1e-9, atol=1e-12)
    positions = torch.arange(16).view(4, 4).double()
    one = captum_importance(plain, ids, baseline=positions)
    torch.testing.assert_close(
        one, captum_importance(plain, ids, baseline=positions.expand(3, 4, 4))
    )
    unpadded = nn.Embedding(12, 4).double()
    model.embed = unpadded
    with pytest.raises(AdapterError, match="model must embed a known padding id"):
        captum_importance(adapt(model, mask=0), ids, baseline="pad")


def test_a_model_without_gradient_says_so() -> None:
    class Cut(Rectified):
        def forward(self, ids: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(ids)

    for method in ("integrated_gradients", "saliency"):
        with pytest.raises(AdapterError, match="logits must depend on features"):
            captum_importance(Cut(), IDS, method=method)
    ablated = captum_importance(Cut(), IDS, method="feature_ablation")
    assert torch.equal(ablated, captum_importance(Rectified(), IDS, method="feature_ablation"))


def test_modules_in_single_precision_and_inference_mode() -> None:
    model = Rectified().float()
    with torch.inference_mode():
        found = captum_importance(model, IDS, method="input_x_gradient", reduction="abs_sum")
        assert torch.equal(found, gradient_importance(model, IDS, detach_attention=False))
    assert found.dtype == torch.float32


@pytest.mark.parametrize("of", ["probability", "logit"])
@pytest.mark.parametrize(("count", "kind"), [(1, "sigmoid"), (3, "sigmoid"), (3, "softmax")])
def test_the_output_made_by_modules_is_the_output(count: int, kind: str, of: str) -> None:
    model = Rectified(count)
    with torch.no_grad():
        reading = read(adapt(model, output=kind), IDS)
    subject, rows = explained(reading, of, False), torch.arange(len(IDS))
    for last in (1, max(count - 1, 1)):
        classes = torch.tensor([0, last, 1])
        made = [each(subject, classes)(subject.values, rows) for each in (Forward, Hooked)]
        torch.testing.assert_close(made[1], made[0], rtol=0, atol=1e-12)
