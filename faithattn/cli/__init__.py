"""The ``faithattn`` command."""

from __future__ import annotations

from faithattn.cli.commands import main

__all__ = ["main"]
