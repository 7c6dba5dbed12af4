"""``python -m faithattn`` is the ``faithattn`` command."""

from __future__ import annotations

from faithattn.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
