"""The differentiable input: words among embeddings, vectors, series, pixels; never positions."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import pytest
import torch
from odd_modules import CLOSE, FULL, IDS, REAL, SIZE, Called, Image, Words, gradients, places_of
from torch import Tensor

from faithattn import AdapterError, adapt, check_adapter, gradient_importance

SEGMENTS = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0]])


def with_places(model: Words, ids: Tensor, places: Tensor | None = None) -> Tensor:
    numbers = places_of(ids) if places is None else places
    return model.decide(model.word(ids) + model.place(numbers), ids != 0)


def with_shared_places(model: Words, ids: Tensor) -> Tensor:
    return with_places(model, ids, torch.arange(ids.shape[1])[None])


def with_segments(
    model: Words, ids: Tensor, token_type_ids: Tensor | None = None, **places: Tensor
) -> Tensor:
    marks = torch.zeros_like(ids) if token_type_ids is None else token_type_ids
    numbers = places.get("position_ids", places_of(ids))
    vectors = model.word(ids) + model.segment(marks) + model.place(numbers)
    return model.decide(vectors, ids != 0)


def with_ids_changed(model: Words, ids: Tensor) -> Tensor:
    return with_places(model, ids.clamp_max(9))


def with_places_by_padding(model: Words, ids: Tensor) -> Tensor:
    real = ids != 0
    return with_places(model, ids, (real.cumsum(1) * real).long() + 1)


EMBEDDINGS: dict[str, tuple[Any, Any]] = {
    "places": (with_places, IDS),
    "shared places": (with_shared_places, IDS),
    "segments": (with_segments, IDS),
    "given segments": (with_segments, (IDS, SEGMENTS)),
    "named segments": (with_segments, {"ids": IDS, "token_type_ids": SEGMENTS}),
    "named places": (with_segments, {"ids": IDS, "position_ids": places_of(IDS)}),
    "ids that the model changes": (with_ids_changed, IDS),
    "places by padding": (with_places_by_padding, IDS),
}


def first(inputs: Any, count: int) -> Any:
    if isinstance(inputs, dict):
        return {key: value[:count] for key, value in inputs.items()}
    return tuple(each[:count] for each in inputs) if isinstance(inputs, tuple) else inputs[:count]


@pytest.mark.parametrize("count", [3, 1])
@pytest.mark.parametrize("places", [8, 90])
@pytest.mark.parametrize(("function", "inputs"), EMBEDDINGS.values(), ids=EMBEDDINGS)
def test_words_are_told_from_positions(function: Any, inputs: Any, places: int, count: int) -> None:
    """Whichever table is larger, and for one text as for several."""
    if function is with_ids_changed and places > 12:
        inputs = IDS.clamp_max(9)  # what is changed is known by its table alone
    model = Called(function, places=places)
    adapter = adapt(model)
    run = adapter.run(first(inputs, count))
    assert list(run.features) == ["word"]
    words = IDS[:count].clamp_max(9) if function is with_ids_changed else IDS[:count]
    torch.testing.assert_close(run.features["word"], model.word(words), **CLOSE)
    assert torch.equal(run.mask, REAL[:count])


def test_ids_that_count_are_words_all_the_same() -> None:
    for ids in (torch.arange(5)[None] + 3, torch.arange(5)[None], torch.full((2, 4), 7)):
        for model in (Words(padding=None), Called(with_shared_places, padding=None, places=9)):
            assert list(adapt(model).run(ids).features) == ["word"]


@pytest.mark.parametrize("size", [1, 3, 5])
def test_as_many_texts_as_positions(size: int) -> None:
    """Positions (1, L, E) are not taken for texts that lie on another axis."""
    ids = FULL[:, :size].repeat(2, 1)[:size]
    for function in (with_places, with_shared_places):
        run = adapt(Called(function, padding=None)).run(ids)
        assert {key: tuple(each.shape) for key, each in run.features.items()} == {
            "word": (size, size, SIZE)
        }


def test_the_gradient_is_that_of_the_words() -> None:
    model = Called(with_segments, padding=None, places=90)
    places = model.place(places_of(FULL)) + model.segment(torch.zeros_like(FULL))
    for row in range(3):
        expected = gradients(
            lambda x, at=row: model.decide(x + places[at]), model.word(FULL[row])[None]
        )
        torch.testing.assert_close(
            gradient_importance(model, FULL[row : row + 1], detach_attention=False), expected
        )


# --- vectors -------------------------------------------------------------------------------

VECTORS = torch.randn(3, 5, SIZE, generator=torch.Generator().manual_seed(1)).double()


def of_vectors(model: Words, x: Tensor) -> Tensor:
    return model.decide(x)


def of_vectors_with_places(model: Words, x: Tensor) -> Tensor:
    return model.decide(x + model.place(torch.arange(x.shape[1])[None]))


def of_gated_vectors(model: Words, x: Tensor) -> Tensor:
    gate = model.hidden(x)[..., :4].softmax(-1).amax(-1, keepdim=True)
    return model.decide(x * gate)


def of_embeds(model: Words, inputs_embeds: Tensor, attention_mask: Tensor) -> Tensor:
    marks = torch.zeros_like(attention_mask)
    places = torch.arange(marks.shape[1])[None]
    vectors = inputs_embeds + model.segment(marks) + model.place(places)
    return model.decide(vectors, attention_mask.bool())


@pytest.mark.parametrize("count", [3, 1])
@pytest.mark.parametrize("function", [of_vectors, of_vectors_with_places, of_gated_vectors])
def test_vectors(function: Any, count: int) -> None:
    model, given = Called(function), VECTORS[:count]
    wrapped: list[tuple[str, Any]] = [("inputs", given), ("0", (given,)), ("x", {"x": given})]
    for name, inputs in [*wrapped, ("x", UserDict(x=given))]:
        adapter = adapt(model)
        run = adapter.run(inputs)
        assert list(run.features) == [name] and len(run.attention) == 1
        torch.testing.assert_close(run.features[name], given, **CLOSE)
        torch.testing.assert_close(run.logits, function(model, given), **CLOSE)
        other = adapter.run(inputs, features={name: given.flip(1)})
        torch.testing.assert_close(other.logits, function(model, given.flip(1)), **CLOSE)
    check_adapter(adapt(model), {"x": given})
    expected = gradients(lambda x: function(model, x), given)
    found = gradient_importance(model, given, detach_attention=False)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("count", [3, 1])
def test_vectors_in_the_place_of_ids(count: int) -> None:
    inputs = {"inputs_embeds": VECTORS[:count], "attention_mask": REAL[:count].long()}
    run = adapt(Called(of_embeds)).run(inputs)
    assert list(run.features) == ["inputs_embeds"]
    torch.testing.assert_close(run.features["inputs_embeds"], VECTORS[:count], **CLOSE)
    assert torch.equal(run.mask, REAL[:count])
    check_adapter(adapt(Called(of_embeds)), inputs)


def test_a_series_of_numbers() -> None:
    def function(model: Words, x: Tensor) -> Tensor:
        return model.decide(x.unsqueeze(-1) * model.score.weight)

    model, series = Called(function), VECTORS[..., 0]
    run = adapt(model).run(series)
    ((name, found),) = run.features.items()
    torch.testing.assert_close(found, series[..., None], **CLOSE)
    expected = gradients(lambda x: function(model, x.squeeze(-1)), series[..., None])
    torch.testing.assert_close(gradient_importance(model, series, detach_attention=False), expected)
    with pytest.raises(AdapterError, match=rf"features \['{name}'\] that come from else"):
        adapt(model).remove(series, torch.zeros(3, dtype=torch.int64))


def test_words_of_characters() -> None:
    def function(model: Words, ids: Tensor) -> Tensor:
        return model.decide(model.word(ids).mean(2))

    model = Called(function, padding=None)
    characters = FULL[:, :, None] + torch.arange(3)
    characters = characters.clamp_max(11)
    run = adapt(model).run(characters)
    ((_, found),) = run.features.items()
    torch.testing.assert_close(found, model.word(characters).mean(2), **CLOSE)
    expected = gradients(model.decide, model.word(characters).mean(2))
    torch.testing.assert_close(
        gradient_importance(model, characters, detach_attention=False), expected
    )


# --- pixels --------------------------------------------------------------------------------

PIXELS = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(2)).double()


@pytest.mark.parametrize("count", [5, 3, 1])
@pytest.mark.parametrize(
    "options",
    [{}, {"cls": False}, {"cls": False, "size": 4}, {"places": "table"}, {"size": 5}],
    ids=["class token", "patches", "as many features", "table of places", "all five"],
)
def test_pixels(options: dict[str, Any], count: int) -> None:
    """The tokens that attention is over: (B, L, E), also where E, L and B are the same."""
    model, pixels = Image(**options), PIXELS[:count]
    expected = model.tokens(pixels)
    adapter = adapt(model)
    run = adapter.run(pixels)
    ((name, found),) = run.features.items()
    torch.testing.assert_close(found, expected, **CLOSE)
    assert run.mask.shape == expected.shape[:2] and run.mask.all()
    other = adapter.run(pixels, features={name: expected.flip(1).detach()})
    torch.testing.assert_close(other.logits, model.decide(expected.flip(1)), **CLOSE)


# --- time first ----------------------------------------------------------------------------


def time_first(model: Words, ids: Tensor) -> Tensor:
    """Ids (B, L) that are turned inside the model."""
    turned = ids.T
    states = model.states(model.word(turned))
    scores = model.score(states).squeeze(-1) * 3
    weights = scores.masked_fill(turned == 0, -1e9).softmax(0)
    return model.out((weights[..., None] * states).sum(0))


@pytest.mark.parametrize("count", [3, 1, 5])
def test_time_first_inside(count: int) -> None:
    ids = IDS.repeat(2, 1)[:count]
    model, plain = Called(time_first), Words()
    run, expected = adapt(model).run(ids), adapt(plain).run(ids)
    torch.testing.assert_close(run.features["word"], expected.features["word"], **CLOSE)
    torch.testing.assert_close(run.attention["attention"], expected.attention["attention"], **CLOSE)
    assert torch.equal(run.mask, ids != 0)
    check_adapter(adapt(model), ids)


def test_time_first_inputs_are_refused() -> None:
    model = Called(lambda model, turned: time_first(model, turned.T))
    for ids, message in (
        (
            FULL,
            r"the 3 instances of the logits on dimension 0; got int64 \(5, 3\)\.",
        ),
        (
            FULL[:, :3],
            r"the instances on dimension 0; got int64 \(3, 3\), of which",
        ),
    ):
        with pytest.raises(AdapterError, match=f"inputs must hold {message}.*adapt.model, call="):
            adapt(model).run(ids.T)
    adapter = adapt(model, call=lambda module, ids: module(ids.T))
    run = adapter.run(IDS)
    torch.testing.assert_close(run.logits, Words()(IDS), **CLOSE)
    assert torch.equal(run.mask, REAL)
    check_adapter(adapter, IDS)
