"""``faithattn calibrate``: which metrics tell a more faithful explanation from a less faithful."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from faithattn.cli.guards import check_threads, failing

_DESCRIPTION = """\
Asks every metric about pairs of planted models, or of explanations, of which one is known to be
more faithful, and counts how often it ranks them rightly (chance: .5): for short and long texts,
attention over words and over mixed states, one text and means over many, pairs far apart and close.
Prints a table and writes it, with every setting and an image, to a folder.
"""
_EPILOG = """\
examples:
  faithattn calibrate --quick
  faithattn calibrate --metrics permutation_test adversarial_attention
  faithattn calibrate --lengths 6 16 40 --depths 0 1 3 --sizes 1 4 16 --pairs 100

what is written: calibration.json (every setting, verdicts, versions), calibration.md,
calibration.png.
"""
_LESS_MEMORY = "Lower --pairs, --sizes or --lengths."
_QUICK: dict[str, Any] = {"lengths": [6, 16], "depths": [0, 2], "sizes": [1, 8], "pairs": 40}
_FULL: dict[str, Any] = {
    "lengths": [6, 16, 40],
    "depths": [0, 1, 3],
    "sizes": [1, 4, 16],
    "pairs": 100,
}


def add_parser(commands: Any) -> None:
    """Adds the sub-command to those of ``faithattn``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "calibrate",
        help="see which metrics rank planted pairs rightly",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_argument_group("what is asked")
    group.add_argument(
        "--metrics", nargs="+", metavar="NAME",
        help="metrics to ask (default: every one that measures faithfulness)",
    )  # fmt: skip
    for name, what in (
        ("lengths", "words of a text"),
        ("depths", "layers of mixing between words and attention"),
        ("sizes", "texts averaged for one number"),
    ):
        group.add_argument(
            f"--{name}", nargs="+", type=int, metavar="N", help=f"{what} {_defaults(name)}"
        )
    group.add_argument(
        "--pairs", type=int, metavar="N", help=f"pairs in each setting {_defaults('pairs')}"
    )
    group.add_argument(
        "--removal", default="delete", metavar="NAME",
        help="how metrics take words away (default: delete)",
    )  # fmt: skip
    group.add_argument("--quick", action="store_true", help="fewer settings and pairs")
    group = parser.add_argument_group("run")
    group.add_argument(
        "--out", metavar="DIR",
        help="folder for the results (default: faithattn-results/calibration-seedN)",
    )  # fmt: skip
    group.add_argument(
        "--seed", type=int, default=0, metavar="N",
        help="seed of models, texts and draws (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--threads", type=int, default=1, metavar="N",
        help="threads to compute with (default: 1; the models are small)",
    )  # fmt: skip
    group.add_argument("--quiet", action="store_true", help="no progress bar, only the table")
    parser.set_defaults(work=work)


def work(chosen: argparse.Namespace) -> int:
    """Calibrates, prints the table and writes the folder."""
    names = {"metrics", "lengths", "depths", "sizes", "seed", "threads", "out", "pairs", "removal"}
    with failing(2, ValueError, TypeError, OSError, names=names, memory=_LESS_MEMORY):
        check_threads(chosen.threads)
        import torch

        from faithattn._checks import require_count
        from faithattn.pages.files import prepare_folder
        from faithattn.planted.calibration.files import write_calibration
        from faithattn.planted.calibration.measuring import calibrate
        from faithattn.planted.calibration.plan import check_arguments

        torch.set_num_threads(chosen.threads)
        asked = _QUICK if chosen.quick else _FULL
        options = {
            name: getattr(chosen, name) or asked[name] for name in ("lengths", "depths", "sizes")
        }
        options["n_pairs"] = require_count(
            "pairs", asked["pairs"] if chosen.pairs is None else chosen.pairs
        )
        check_arguments(chosen.metrics, seed=chosen.seed, removal=chosen.removal, **options)
        folder = prepare_folder(
            chosen.out or Path("faithattn-results", f"calibration-seed{chosen.seed}")
        )
    with failing(1, OSError, memory=_LESS_MEMORY):
        found = calibrate(
            chosen.metrics,
            removal=chosen.removal,
            seed=chosen.seed,
            progress=not chosen.quiet,
            **options,
        )
        written = write_calibration(found, folder)
    print(found)
    total = sum(found.seconds.values())
    print(f"\nTime: {total:.0f} s. Written to {folder}: {', '.join(p.name for p in written)}.")
    return 0


def _defaults(name: str) -> str:
    """The defaults of an option, for its help."""
    full, quick = (
        " ".join(map(str, value)) if isinstance(value, list) else str(value)
        for value in (_FULL[name], _QUICK[name])
    )
    return f"(default: {full}; quick: {quick})"
