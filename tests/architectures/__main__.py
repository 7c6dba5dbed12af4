"""``python -m tests.architectures [--write] [name ...]``: the matrix, measured."""

from __future__ import annotations

import argparse
import os
from typing import Any

import torch

from . import page
from .zoo import CASES


def main() -> None:
    """Measures the architectures, prints the table and puts it into the page if asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.architectures", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into {page.PAGE.name}")
    parser.add_argument("names", nargs="*", help="parts of names; all where none is given")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    quiet()
    torch.set_num_threads(1)
    chosen = [
        case
        for case in CASES
        if case.available
        and (not options.names or any(part in str(case) for part in options.names))
    ]
    rows = []
    for case in chosen:
        rows.append(page.measured(case))
        print(rows[-1], flush=True)
    if options.write:
        page.write(rows)


def quiet() -> None:
    """No progress bars and remarks of other libraries between the rows."""
    try:
        from transformers.utils import logging as imported
    except ImportError:
        return
    logging: Any = imported
    logging.set_verbosity_error()
    logging.disable_progress_bar()


if __name__ == "__main__":
    main()
