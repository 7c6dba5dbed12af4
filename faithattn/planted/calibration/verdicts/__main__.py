"""``python -m faithattn.planted.calibration.verdicts``: verdicts on planted models, a table."""

from __future__ import annotations

import argparse
import json
import sys

import torch

from faithattn.planted.calibration.verdicts.cases import CASES
from faithattn.planted.calibration.verdicts.measuring import calibrate_verdicts


def main() -> int:
    """Judges, and prints tables or JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m faithattn.planted.calibration.verdicts",
        description="Judges models whose answer is known; about half a minute a seed.",
    )
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="models of each family")
    parser.add_argument("--first-seed", type=int, default=0, metavar="N")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 200], metavar="N")
    parser.add_argument("--only", default="", metavar="TEXT", help="families whose name has this")
    parser.add_argument("--json", action="store_true", help="print every count instead of tables")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    try:
        found = calibrate_verdicts(
            sizes=asked.sizes,
            n_seeds=asked.seeds,
            seed=asked.first_seed,
            cases=[case for case in CASES if asked.only in case.name],
            progress=sys.stderr.isatty(),
        )
    except ValueError as error:
        parser.error(str(error))
    print(json.dumps(found.to_dict()) if asked.json else found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
