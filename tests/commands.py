"""The command as scripts use it, with models that are small enough to wait for."""

from __future__ import annotations

import pytest

from faithattn.cli import main
from faithattn.paper import experiment


def small_models(patch: pytest.MonkeyPatch) -> None:
    """Lets the command make models that learn little in no time."""
    small = {"embedding_size": 8, "hidden_size": 4, "n_steps": 5}

    class Small(experiment.Settings):
        def __init__(self, **options: object) -> None:
            super().__init__(**(options | small))  # type: ignore[arg-type]

    patch.setattr(experiment, "Settings", Small)


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str], status: int = 2) -> str:
    """Runs a command that must end with one line on standard error, and returns it."""
    try:
        code = main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    assert code == status, captured.err
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    return captured.err
