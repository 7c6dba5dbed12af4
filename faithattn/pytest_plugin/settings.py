"""Settings of a test's checks: from the command line, from markers, from each call."""

from __future__ import annotations

from typing import Any

import pytest

_LIMITS = ("seed", "confidence", "undecided", "max_undefined")
_BASELINES = ("seed", "max_undefined", "tolerance")
NAMES = tuple(dict.fromkeys([*_LIMITS, *_BASELINES]))


def settings_of(item: pytest.Item, seed: int) -> dict[str, Any]:
    """What the markers of a test, its class and its module say; the nearest one decides."""
    settings: dict[str, Any] = {"seed": seed}
    for marker in reversed(list(item.iter_markers("faithattn"))):
        if marker.args:
            pytest.fail(
                f"marker faithattn must have settings by name; got {marker.args[0]!r}. "
                "Write it as in faithattn(seed=1).",
                pytrace=False,
            )
        settings |= marker.kwargs
    unknown = [name for name in settings if name not in NAMES]
    if unknown:
        pytest.fail(
            f"marker faithattn must have settings among {', '.join(NAMES)}; "
            f"got {unknown[0]!r}. Check the spelling.",
            pytrace=False,
        )
    return settings


def for_limits(settings: dict[str, Any]) -> dict[str, Any]:
    """Those that an assertion takes."""
    return {name: value for name, value in settings.items() if name in _LIMITS}


def for_baselines(settings: dict[str, Any]) -> dict[str, Any]:
    """Those that a comparison with a baseline takes."""
    return {name: value for name, value in settings.items() if name in _BASELINES}
