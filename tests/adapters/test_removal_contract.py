"""What the contract asks of removal: right where it is done, allowed to refuse."""

from __future__ import annotations

from typing import Any

import pytest
from adapter_models import IDS, Full
from torch import Tensor

from faithattn import AdapterError, check_adapter, leave_one_out_importance


class Refuses(Full):
    def remove(self, inputs: Any, positions: Tensor) -> Any:
        raise AdapterError("inputs must hold a text; got an image. Use removal=mask_patch(16).")


class Fails(Full):
    def remove(self, inputs: Any, positions: Tensor) -> Any:
        raise IndexError("too long")


def test_a_removal_that_says_it_cannot_is_no_violation() -> None:
    check_adapter(Refuses(), IDS)
    with pytest.raises(AdapterError, match=r"got an image\. Use removal=mask_patch\(16\)"):
        leave_one_out_importance(Refuses(), IDS)


def test_a_removal_that_fails_is_one() -> None:
    with pytest.raises(AdapterError, match=r"remove\(inputs, positions\) must not fail; got Inde"):
        check_adapter(Fails(), IDS)
