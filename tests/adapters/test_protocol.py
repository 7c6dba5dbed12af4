"""The protocol: what counts as an adapter, and what a run holds."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from adapter_models import Adapter, Full, Model, Removes, Replays, Selects

from faithattn import (
    AttentionModel,
    Run,
    SupportsRemoval,
    SupportsReplay,
    SupportsSelection,
    TorchAdapter,
    adapt,
)
from faithattn.paper.models import QuestionAnswerer, TextClassifier

ALL = (AttentionModel, SupportsReplay, SupportsRemoval, SupportsSelection)


@pytest.mark.parametrize(
    ("value", "offered"),
    [
        (Adapter(), (True, False, False, False)),
        (Full(), (True, True, True, True)),
        (Replays(), (False, True, False, False)),
        (Removes(), (False, False, True, False)),
        (Selects(), (False, False, False, True)),
        (adapt(Model()), (True, True, True, True)),
        (TextClassifier(9, embedding_size=2, hidden_size=2), (True, True, True, True)),
        (QuestionAnswerer(9, 2, embedding_size=2, hidden_size=2), (True, True, True, True)),
        (Model(), (False, False, False, False)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_model_offers_is_seen(value: object, offered: tuple[bool, ...]) -> None:
    assert tuple(isinstance(value, protocol) for protocol in ALL) == offered


def test_a_run_needs_three_things_and_cannot_be_changed() -> None:
    run = Run(torch.ones(1, 1), {"a": torch.ones(1, 1)}, torch.ones(1, 1, dtype=torch.bool))
    assert (run.features, run.support, run.state) == ({}, None, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.logits = torch.zeros(1, 1)  # type: ignore[misc]
    assert isinstance(adapt(Model()), TorchAdapter)
