"""token_logits(): the logits of one token, padded on either side, of causal models and decoders."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from odd_modules import CLOSE, FULL, IDS, REAL, Called, Words
from torch import Tensor

from faithattn import AdapterError, AttentionView, adapt, permutation_test
from faithattn.adapters.torch_module.tokens import token_logits

LEFT = IDS.flip(1)
TOKENIZER = SimpleNamespace(all_special_ids=[0], pad_token_id=0, unk_token_id=None)


def causal(model: Words, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    states = model.states(model.word(input_ids))
    length = input_ids.shape[1]
    open_ = torch.ones(length, length).tril().bool() & (input_ids != 0)[:, None]
    scores = (states @ states.transpose(1, 2)).masked_fill(~open_, -1e9)
    return model.out(scores.softmax(-1) @ states)


def last_by_hand(model: Called, ids: Tensor) -> Tensor:
    """Logits of the last token that is no padding, row by row."""
    full = model(ids)
    return torch.stack([full[row, int(each.nonzero()[-1])] for row, each in enumerate(ids != 0)])


KNOWN: dict[str, tuple[int | None, Any, Any]] = {
    "padding_idx": (0, None, lambda ids: ids),
    "id": (None, 0, lambda ids: ids),
    "tokenizer": (None, TOKENIZER, lambda ids: ids),
    "attention_mask": (None, None, lambda i: {"input_ids": i, "attention_mask": (i != 0).long()}),
    "in a tuple": (0, None, lambda ids: (ids, None)),
}


@pytest.mark.parametrize("ids", [IDS, LEFT, FULL, IDS[:1], LEFT[1:2]])
@pytest.mark.parametrize(("padding", "mask", "wrap"), KNOWN.values(), ids=KNOWN)
def test_the_last_real_token(padding: Any, mask: Any, wrap: Any, ids: Tensor) -> None:
    model = Called(causal, padding=padding, classes=4)
    for among in (None, (3, 1)):
        adapter = adapt(model, mask=mask, logits=token_logits(among=among))
        expected = last_by_hand(model, ids)
        expected = expected if among is None else expected[:, list(among)]
        torch.testing.assert_close(adapter.run(wrap(ids)).logits, expected, **CLOSE)


@pytest.mark.parametrize("position", [0, 2, -1, -5])
def test_one_position_of_every_text(position: int) -> None:
    model = Called(causal)
    found = adapt(model, logits=token_logits(position)).run(IDS).logits
    torch.testing.assert_close(found, model(IDS)[:, position], **CLOSE)


def test_a_position_that_is_not_there() -> None:
    for position in (5, -6):
        message = rf"must be one of 5 positions of the logits; got {position}\. Negative"
        with pytest.raises(AdapterError, match=message):
            adapt(Called(causal), logits=token_logits(position)).run(IDS)


def test_a_mask_function_does_not_tell_the_last_real_token() -> None:
    """It leaves out what is not explained, be it padding or not."""
    model = Called(causal, padding=None)
    adapter = adapt(model, mask=lambda ids: ids > 3, logits=token_logits())
    with pytest.raises(AdapterError, match=r"token_logits\(\) must know which position is"):
        adapter.run(IDS)
    torch.testing.assert_close(
        adapt(model, mask=lambda ids: ids != 0, logits=token_logits()).run(LEFT).logits,
        last_by_hand(model, LEFT),
        **CLOSE,
    )
    for other in (FULL[:, :4], IDS[:1]):
        run = adapt(model, mask=torch.ones_like, logits=token_logits(-1)).run
        with pytest.raises(AdapterError, match="mask must be boolean of shape"):
            run(other)


def decoder(
    model: Words, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor, **_: Tensor
) -> Tensor:
    states = model.states(model.word(input_ids))
    queries = model.states(model.word(decoder_input_ids))
    scores = (queries @ states.transpose(1, 2)).masked_fill(~attention_mask.bool()[:, None], -1e9)
    return model.out(scores.softmax(-1) @ states)


TARGETS = torch.tensor([[1, 5, 3, 0, 0], [1, 2, 0, 0, 0], [1, 6, 7, 8, 9]])


@pytest.mark.parametrize("length", [5, 3, 1])
def test_the_last_token_of_a_decoder(length: int) -> None:
    """The encoder's padding says nothing of the decoder's, be it as long or not."""
    targets = TARGETS[:, :length]
    inputs = {"input_ids": IDS, "attention_mask": REAL.long(), "decoder_input_ids": targets}
    for padding, marked in ((0, False), (None, True), (None, False)):
        model = Called(decoder, padding=padding)
        given = dict(inputs)
        if marked:
            given["decoder_attention_mask"] = (targets != 0).long()
        full = model(**given)
        known = padding == 0 or marked
        last = (targets != 0).sum(1) - 1 if known else torch.full((3,), length - 1)
        run = adapt(model, logits=token_logits()).run(given)
        torch.testing.assert_close(run.logits, full[torch.arange(3), last], **CLOSE)
        mask = run.mask if isinstance(run.mask, Tensor) else run.mask["attention"]
        assert torch.equal(mask, REAL)


def test_the_tests_explain_the_chosen_token() -> None:
    model = Called(causal)
    adapter = adapt(model, logits=token_logits(among=[1, 0]))
    result = permutation_test(
        adapter, IDS, view=AttentionView.last_query(), n_permutations=3, seed=0
    )
    assert result.tvd.shape == (3, 3)
    with pytest.raises(AdapterError, match=r"got \(3, 5, 2\), one row for every position\. Choose"):
        adapt(model).run(IDS)


NOT_SEQUENCES: dict[str, tuple[Any, str]] = {
    "classes": (torch.zeros(2, 3), r"got \(2, 3\)\. Leave logits= out for a classifier"),
    "mapping": ({"x": torch.zeros(2, 3, 4)}, "got dict"),
    "nothing": (None, "got NoneType"),
}


@pytest.mark.parametrize(("returned", "message"), NOT_SEQUENCES.values(), ids=NOT_SEQUENCES)
def test_what_is_no_sequence_of_logits(returned: Any, message: str) -> None:
    with pytest.raises(AdapterError, match=r"logits of shape \(B, T, V\) .*" + message):
        token_logits()(returned)


def test_what_holds_a_sequence_of_logits() -> None:
    logits = torch.arange(24.0).view(2, 3, 4)
    for returned in (
        logits,
        (logits, 1),
        [logits],
        SimpleNamespace(logits=logits),
        ((logits,)[0],),
    ):
        assert token_logits(1)(returned).tolist() == logits[:, 1].tolist()
        assert token_logits()(returned).tolist() == logits[:, -1].tolist()


def test_bad_choices() -> None:
    for position in (1.0, True, "last"):
        with pytest.raises(TypeError, match="position must be an int or None; got"):
            token_logits(position)  # type: ignore[arg-type]
    for among in ([], [1, 1]):
        with pytest.raises(ValueError, match="among must hold at least one token id, each once"):
            token_logits(among=among)
    with pytest.raises(TypeError, match="among must hold token ids; got"):
        token_logits(among=["yes"])  # type: ignore[list-item]
