"""check_adapter(): does a model keep the contract that every test relies on?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from faithattn.adapters.contract import offer_checks as offers
from faithattn.adapters.contract import run_checks as runs
from faithattn.adapters.contract.removal_checks import removal
from faithattn.adapters.contract.subject import Subject, modules
from faithattn.adapters.protocol import AttentionModel
from faithattn.adapters.reading import as_adapter
from faithattn.adapters.state import condition
from faithattn.adapters.validate import run_violations
from faithattn.errors import AdapterError
from faithattn.measures.outputs import OUTPUTS

_CHECKS: dict[str, Callable[[Subject], list[str]]] = {
    "run(inputs) twice": runs.repeatable,
    "run(inputs) in train mode": runs.leaves_no_trace,
    "run(attention=its own)": runs.identity,
    "run(attention=another)": runs.override,
    "mask": runs.mask_meaning,
    "run(features=...)": offers.features,
    "replay(state, attention)": offers.replay,
    "select(inputs, rows)": offers.selection,
    "remove(inputs, positions)": removal,
}


def check_adapter(model: object, inputs: Any) -> None:
    """Checks that an adapter does what every test assumes, and names all it does not.

    Run it once on a small batch of real inputs, best with different lengths,
    in a test of your own. Besides shapes and ranges it checks that two runs
    agree; that the model's mode, buffers, gradient flags and the global
    random state are left alone; that an identity override leaves the logits
    and another moves them, used as given; that the mask marks real positions;
    that features carry gradient and are taken back; that replay agrees with
    run for any number of alternatives and is differentiable; and that
    selection and removal do what they say.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: A batch as the model takes it.

    Raises:
        AdapterError: With every violation in the message and in ``.violations``.
        TypeError: If ``model`` is neither.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> check_adapter(TextClassifier(10), torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]]))
    """
    adapter = as_adapter(model)
    before = condition(modules(adapter))
    found = _guarded("run(inputs)", partial(_first_run, adapter, inputs))
    if not found:
        with torch.no_grad():
            subject = Subject(adapter, inputs, adapter.run(inputs), before)
        for name, check in _CHECKS.items():
            found += _guarded(name, partial(check, subject))
    if found:
        listing = "\n".join(f"  {index}. {text}" for index, text in enumerate(found, 1))
        raise AdapterError(
            f"{type(adapter).__name__} must keep the adapter contract; "
            f"got {len(found)} violation(s):\n{listing}",
            found,
        )


def _first_run(adapter: AttentionModel, inputs: Any) -> list[str]:
    """Shapes, ranges and finiteness of one run, and the output attribute."""
    with torch.no_grad():
        found = run_violations(adapter.run(inputs))
    output = getattr(adapter, "output", "auto")
    if output not in OUTPUTS:
        found.append(f"output must be one of {', '.join(OUTPUTS)}; got {output!r}.")
    return found


def _guarded(name: str, check: Callable[[], list[str]]) -> list[str]:
    """What a check finds; an exception in the adapter is a violation too."""
    try:
        return check()
    except Exception as error:
        return [f"{name} must not fail; got {type(error).__name__}: {error}"]
