"""The command as scripts use it, with models that are small enough to wait for."""

from __future__ import annotations

import pytest

from faithattn.cli import main
from faithattn.paper import experiment


def small_models(
    patch: pytest.MonkeyPatch, *, embedding_size: int = 8, hidden_size: int = 4
) -> None:
    """Lets the command make models that learn little in no time."""
    small = {"embedding_size": embedding_size, "hidden_size": hidden_size, "n_steps": 5}

    class Small(experiment.Settings):
        def __init__(self, **options: object) -> None:
            super().__init__(**(options | small))  # type: ignore[arg-type]

    patch.setattr(experiment, "Settings", Small)


def fails(
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    status: int = 2,
    *,
    silent: bool = True,
) -> str:
    """Runs a command that must end with one line on standard error, and returns it.

    Nothing else may be printed, unless ``silent`` is False.
    """
    try:
        code = main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    assert code == status, captured.err
    assert not (silent and captured.out)
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    return captured.err


def refused(capsys: pytest.CaptureFixture[str], data: str, *options: str) -> str:
    """What ``reproduce`` says of data or options that it cannot use."""
    message = fails(["reproduce", data, "--quiet", *options], capsys)
    assert message.startswith("faithattn reproduce: ")
    return message
