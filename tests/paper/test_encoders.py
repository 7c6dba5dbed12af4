from __future__ import annotations

import pytest
import torch
from torch import Tensor

from faithattn.paper.models.attention import AdditiveAttention, ScaledDotAttention, masked_softmax
from faithattn.paper.models.encoders import ENCODERS, BiLSTMEncoder, ConvEncoder, Encoder
from faithattn.paper.training import build

LENGTHS = (1, 2, 5, 9)


def make(name: str) -> Encoder:
    return build(lambda: ENCODERS[name](3, 4), seed=1).double()


def batch(width: int = 11) -> tuple[Tensor, Tensor]:
    """Embeddings that are wild at padding too, and where they are real."""
    generator = torch.Generator().manual_seed(0)
    embedded = torch.randn(len(LENGTHS), width, 3, generator=generator, dtype=torch.float64)
    return embedded, torch.arange(width) < torch.tensor(LENGTHS).unsqueeze(1)


@pytest.mark.parametrize("name", ENCODERS)
def test_padded_batch_gives_what_each_text_gives_alone(name: str) -> None:
    encoder, (embedded, real) = make(name), batch()
    states = encoder(embedded, real)
    assert states.shape == (4, 11, encoder.size)
    assert (states[~real] == 0).all()
    for row, length in enumerate(LENGTHS):
        own = embedded[row : row + 1, :length]
        expected = encoder(own, torch.ones(1, length, dtype=torch.bool))
        torch.testing.assert_close(states[row : row + 1, :length], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ENCODERS)
def test_padding_gets_no_gradient(name: str) -> None:
    encoder, (embedded, real) = make(name), batch()
    embedded.requires_grad_()
    encoder(embedded, real).square().sum().backward()
    assert embedded.grad is not None
    assert (embedded.grad[~real] == 0).all()
    assert (embedded.grad[real] != 0).any(-1).all()


@pytest.mark.parametrize("name", ENCODERS)
def test_summary_ignores_padding(name: str) -> None:
    encoder, (embedded, real) = make(name), batch()
    words = real & (torch.arange(11) > 0)
    summary = encoder.summary(encoder(embedded, real), real, words)
    for row, length in enumerate(LENGTHS):
        own = torch.ones(1, length, dtype=torch.bool)
        states = encoder(embedded[row : row + 1, :length], own)
        expected = encoder.summary(states, own, words[row : row + 1, :length])
        torch.testing.assert_close(summary[row : row + 1], expected, atol=1e-12, rtol=0)


def test_bilstm_is_torchs_bidirectional_lstm() -> None:
    encoder, (embedded, real) = make("bilstm"), batch()
    assert isinstance(encoder, BiLSTMEncoder)
    lstm = torch.nn.LSTM(3, 4, batch_first=True, bidirectional=True).double()
    weights = {**encoder.rightward.state_dict()}
    weights |= {f"{name}_reverse": value for name, value in encoder.leftward.state_dict().items()}
    lstm.load_state_dict(weights)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        embedded, real.sum(1), batch_first=True, enforce_sorted=False
    )
    output, (final, _) = lstm(packed)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=True, total_length=11)
    states = encoder(embedded, real)
    torch.testing.assert_close(states, expected, atol=1e-12, rtol=0)
    summary = encoder.summary(states, real, real)
    torch.testing.assert_close(summary, torch.cat([final[0], final[1]], -1), atol=1e-12, rtol=0)


def test_average_mixes_nothing_and_cnn_at_most_three_neighbours() -> None:
    embedded, _ = batch()
    real = torch.ones(4, 11, dtype=torch.bool)
    changed = embedded.clone()
    changed[:, 5] += 1
    for name, reach in (("average", 0), ("cnn", 3), ("bilstm", 10)):
        encoder = make(name)
        moved = (encoder(embedded, real) != encoder(changed, real)).any(-1).any(0)
        near = (torch.arange(11) - 5).abs() <= reach
        assert moved.tolist() == near.tolist(), name


def test_odd_hidden_size_is_refused_by_the_cnn() -> None:
    with pytest.raises(ValueError, match="hidden_size must be even for the CNN; got 3"):
        ConvEncoder(4, 3)


def test_masked_softmax_equals_softmax_over_the_positions_left() -> None:
    scores = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 0, 1, 1, 0, 0], [1] * 6, [0, 0, 0, 0, 0, 1]], dtype=torch.bool)
    weights = masked_softmax(scores, mask)
    for row in range(3):
        expected = torch.softmax(scores[row, mask[row]], -1)
        torch.testing.assert_close(weights[row, mask[row]], expected)
    assert (weights[~mask] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_row_without_positions_gets_zeros_and_a_finite_gradient(dtype: torch.dtype) -> None:
    scores = torch.full((2, 3), 50.0, dtype=dtype, requires_grad=True)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    weights = masked_softmax(scores, mask)
    assert weights[1].tolist() == [0, 0, 0]
    (weights * torch.arange(3)).sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert (scores.grad[1] == 0).all()


@pytest.mark.parametrize("with_query", [True, False])
def test_scores_follow_the_published_formulas(with_query: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64)
    query = torch.randn(2, 6, generator=generator, dtype=torch.float64) if with_query else None
    mask = torch.tensor([[False, True, True, True, False], [True] * 5])
    size = 6 if with_query else None
    additive = build(lambda: AdditiveAttention(6, size), seed=0).double()
    dot = build(lambda: ScaledDotAttention(6, size), seed=0).double()
    for row in range(2):
        expected_additive, expected_dot = [], []
        for state in states[row, mask[row]]:
            hidden = additive.key.weight @ state + additive.key.bias
            if additive.query is not None and query is not None:
                hidden = hidden + additive.query.weight @ query[row]
            expected_additive.append(additive.score.weight[0] @ hidden.tanh())
            against = query[row] if dot.score is None and query is not None else dot.score.weight[0]
            expected_dot.append(state @ against / 6**0.5)
        for attend, expected in ((additive, expected_additive), (dot, expected_dot)):
            weights = attend(states, mask, query)[row, mask[row]]
            torch.testing.assert_close(weights, torch.stack(expected).softmax(0))


def test_query_must_fit() -> None:
    with pytest.raises(ValueError, match="query_size must equal size; got 4 and 6"):
        ScaledDotAttention(6, 4)
    mask = torch.ones(1, 2, dtype=torch.bool)
    for attend in (AdditiveAttention(6, 6), ScaledDotAttention(6, 6)):
        with pytest.raises(ValueError, match="query must be given; got None"):
            attend(torch.zeros(1, 2, 6), mask)
    for attend in (AdditiveAttention(6), ScaledDotAttention(6)):
        with pytest.raises(ValueError, match="query must be None"):
            attend(torch.zeros(1, 2, 6), mask, torch.zeros(1, 6))
