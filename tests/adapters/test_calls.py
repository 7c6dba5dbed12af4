"""adapt(): inputs that a model does not take, and inputs that deletion cannot shorten."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from adapter_models import IDS
from plain_modules import SIZE, VOCABULARY, Plain
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from faithattn import AdapterError, adapt, check_adapter, leave_one_out_importance

REAL = IDS != 0
COUNTS = REAL.sum(1)


@pytest.mark.parametrize("inputs", [[[1, 2]], "text", 3, None, SimpleNamespace(ids=IDS)])
def test_inputs_of_another_kind(inputs: Any) -> None:
    message = f"inputs must be a tensor, tuple or mapping; got {type(inputs).__name__}. Use torch"
    with pytest.raises(TypeError, match=message):
        adapt(Plain()).run(inputs)


@pytest.mark.parametrize("inputs", [IDS[:0], (IDS[:0],), {"ids": IDS[:0]}])
def test_a_batch_of_none(inputs: Any) -> None:
    with pytest.raises(ValueError, match=r"must hold at least one instance; got .*int64 \(0, 4\)"):
        adapt(Plain()).run(inputs)


FAILURES: dict[str, tuple[Any, str, type[Exception]]] = {
    "id": (IDS + VOCABULARY, r"IndexError: index .* \(inputs int64 \(3, 4\)\)", IndexError),
    "dtype": (IDS.float(), r"RuntimeError: .* \(inputs float32 \(3, 4\)\)", RuntimeError),
    "key": ({"x": IDS}, r"TypeError: .* \(inputs {x: int64 \(3, 4\)}\)", TypeError),
    "count": ((IDS, IDS), r"TypeError: .*\[int64 \(3, 4\), int64 \(3, 4\)\]", TypeError),
}


@pytest.mark.parametrize(("inputs", "message", "cause"), FAILURES.values(), ids=FAILURES)
def test_a_failure_names_the_inputs(inputs: Any, message: str, cause: type[Exception]) -> None:
    expected = f"model must accept these inputs; got {message}.*Call model.inputs. by itself"
    with pytest.raises(AdapterError, match=expected) as caught:
        adapt(Plain()).run(inputs)
    assert isinstance(caught.value.__cause__, cause)


class Raising(Plain):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def decode(self, weights: Tensor, states: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize(
    "error", [AdapterError("own"), KeyboardInterrupt(), torch.OutOfMemoryError("full")]
)
def test_some_failures_pass_through(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        adapt(Raising(error)).run(IDS)
    assert caught.value is error


def test_an_error_of_the_visitor_passes_through() -> None:
    with pytest.raises(AdapterError, match=r"^attention\['attention'\] must have the shape of the"):
        adapt(Plain()).run(IDS, attention={"attention": torch.ones(3, 3)})


def test_a_failed_assertion_names_the_inputs() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, batch_first=True)
    with pytest.raises(
        AdapterError, match=r"got AssertionError: .* \(inputs float32 \(2, 5, 3\)\)"
    ):
        adapt(layer).run(torch.randn(2, 5, 3))
    with pytest.raises(AdapterError, match=r"got AssertionError: too long \(inputs int64"):
        adapt(Raising(AssertionError("too long"))).run(IDS)


def test_a_failed_assertion_of_the_visitor() -> None:
    def fails(weights: Tensor) -> Tensor:
        raise AssertionError("odd")

    with pytest.raises(
        AdapterError, match=r"^attention\['attention'\] must be .*AssertionError fr"
    ):
        adapt(Plain()).run(IDS, attention={"attention": fails})


def test_an_error_without_words() -> None:
    with pytest.raises(AdapterError, match=r"got ValueError:  \(inputs int64"):
        adapt(Raising(ValueError())).run(IDS)


def test_the_adapter_shows_itself() -> None:
    expected = "TorchAdapter(Plain, site='attention', embedding=None, output='auto')"
    assert repr(adapt(Plain(), site="attention")) == expected


# --- leave one out, where the model takes lengths ----------------------------------------


class Counted(Plain):
    """Knows the padding from lengths alone."""

    def __init__(self, padding: int | None = 0) -> None:
        super().__init__(padding=padding)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        states = self.states(ids)
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        scores = self.score(states).squeeze(-1).masked_fill(~real, -1e9)
        return self.decode(scores.softmax(-1), states)


class Packed(Counted):
    """Fails where a length is more than there are columns."""

    def __init__(self, padding: int | None = 0) -> None:
        super().__init__(padding)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.encoder = nn.LSTM(SIZE, SIZE, batch_first=True).double()

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embed(ids), lengths, True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.encoder(packed)[0], True, total_length=ids.shape[1])
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        scores = self.score(states).squeeze(-1).masked_fill(~real, -1e9)
        return self.decode(scores.softmax(-1), states)


def one_by_one(model: nn.Module, ids: Tensor) -> Tensor:
    """The change of probability without each word, each text alone and without padding."""
    model.eval()
    result = torch.zeros(ids.shape, dtype=torch.float64)
    with torch.no_grad():
        for row, text in enumerate(ids):
            words = text[text != 0]
            whole = model(words[None], torch.tensor([len(words)])).sigmoid()
            for at in range(len(words)):
                left = torch.cat([words[:at], words[at + 1 :]])
                without = model(left[None], torch.tensor([len(left)])).sigmoid()
                result[row, at] = (without - whole).abs().item()
    return result


def by_length(inputs: tuple[Tensor, Tensor]) -> Tensor:
    ids, lengths = inputs
    return torch.arange(ids.shape[1]) < lengths[:, None]


@pytest.mark.parametrize("kind", [Counted, Packed])
def test_leaving_one_out_of_a_model_that_takes_lengths(kind: type[Counted]) -> None:
    inputs = (IDS, COUNTS)
    for model, adapter in (
        (kind(), adapt(kind())),
        (kind(None), adapt(kind(None), mask=by_length)),
    ):
        torch.testing.assert_close(
            leave_one_out_importance(adapter, inputs), one_by_one(model, IDS), rtol=1e-9, atol=1e-12
        )
        check_adapter(adapter, inputs)


def test_lengths_of_something_else() -> None:
    adapter = adapt(Counted(None), mask=lambda inputs: inputs[0] > 3)
    with pytest.raises(AdapterError, match="must not hold lengths that deletion cannot adjust"):
        leave_one_out_importance(adapter, (IDS, COUNTS))


@pytest.mark.parametrize("kind", [Counted, Packed])
def test_lengths_as_floats(kind: type[Counted]) -> None:
    class Floats(kind):  # type: ignore[misc, valid-type]
        def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
            return super().forward(ids, lengths.long())

    inputs = (IDS, COUNTS.float())
    for adapter in (adapt(Floats()), adapt(Floats(None), mask=by_length)):
        torch.testing.assert_close(
            leave_one_out_importance(adapter, inputs),
            one_by_one(kind(), IDS),
            rtol=1e-9,
            atol=1e-12,
        )


def test_lengths_of_ids_without_a_padding_id() -> None:
    message = r"lengths that deletion .* Or give the padding id, as in adapt\(model, mask=0\)\.$"
    with pytest.raises(AdapterError, match=message):
        leave_one_out_importance(adapt(Counted(None)), (IDS, COUNTS))
    importance = leave_one_out_importance(adapt(Counted(None), mask=0), (IDS, COUNTS))
    torch.testing.assert_close(importance, one_by_one(Counted(None), IDS))


def test_positions_and_rows_that_are_not_there() -> None:
    adapter = adapt(Plain())
    with pytest.raises(TypeError, match="positions must be an int64 tensor; got list"):
        adapter.remove(IDS, [0, 1, 2])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positions must be real ones; got 3, which is padding"):
        adapter.remove(IDS, torch.tensor([0, 3, 0]))
    with pytest.raises(ValueError, match=r"rows must be numbers from 0 to 2, .*; got \[5\]"):
        adapter.select(IDS, torch.tensor([5]))


def test_a_mask_tensor_belongs_to_one_batch() -> None:
    adapter = adapt(Plain(), mask=REAL)
    assert torch.equal(adapter.run(IDS).mask, REAL)
    with pytest.raises(AdapterError, match="belongs to one batch; pass a function or the padding"):
        leave_one_out_importance(adapter, IDS)


class WithPlaces(Plain):
    def forward(self, ids: Tensor, position_ids: Tensor) -> Tensor:
        states = self.states(ids) * (1 + position_ids)[..., None]
        return self.decode(self.weigh(self.scores(states, ids)), states)


def test_leaving_one_out_moves_the_rest_up() -> None:
    model = WithPlaces()

    def alone(ids: Tensor, lengths: Tensor) -> Tensor:
        return model(ids, torch.arange(ids.shape[1])[None])

    expected = one_by_one(Function(alone), IDS)
    for places in (torch.arange(4).expand(3, 4), torch.arange(4)[None]):
        inputs = {"ids": IDS, "position_ids": places}
        adapter = adapt(model, mask=lambda inputs: inputs["ids"] != 0)
        torch.testing.assert_close(leave_one_out_importance(adapter, inputs), expected)


class Function(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def test_a_mask_that_takes_left_padding_for_words() -> None:
    left = IDS.flip(1)
    check_adapter(adapt(Plain()), left)
    assert torch.equal(adapt(Plain(padding=None)).run(left).mask, left != 0)
    for ids in (IDS, left):
        everywhere = adapt(Plain(), mask=lambda ids: torch.ones_like(ids).bool())
        with pytest.raises(AdapterError, match="mask must be False at padding; got True at an end"):
            check_adapter(everywhere, ids)
