"""``faithattn reproduce``: the published experiment on one task, with a report."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faithattn.cli.guards import check_threads, failing

if TYPE_CHECKING:
    from faithattn.paper.experiment import Experiment, Settings

_DESCRIPTION = """\
Trains the published model on a task (or loads one), runs the four published tests on the test
split, prints what came out beside the published figures, and writes results and figures to a
folder.

tasks:
  babi-1, babi-2, babi-3   question answering over generated stories; needs no file. babi-1 takes
                           about two minutes, babi-2 and babi-3 many.
  FILE.csv, FILE.jsonl     your texts with two labels. The columns text, label and split (train,
                           dev, test) are found by their usual names, or named by you. Without a
                           split column, a tenth of each class is kept for dev and for test.
"""
_EPILOG = """\
examples:
  faithattn reproduce babi-1
  faithattn reproduce sst_dataset.csv --encoder average --seed 1
  faithattn reproduce sst_dataset.csv --vectors glove.txt --out results/glove
  faithattn reproduce reviews.jsonl --text body --label stars --instances 200
  faithattn reproduce babi-1 --checkpoint faithattn-results/babi-1-bilstm-additive-seed0/model.npz

what is written: report.html and summary.md (the same to read), results.json (settings, versions,
every summary), instances.csv (one row per tested text), model.npz (for --checkpoint),
figures/*.svg.
"""

_LESS_MEMORY = "Lower --adversaries or --permutations, or split long texts."


def add_parser(commands: Any) -> None:
    """Adds the sub-command to those of ``faithattn``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "reproduce",
        help="train the published model on a task and run the four tests",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", metavar="TASK", help="babi-1, babi-2, babi-3, or a file of texts")
    _add_model_options(parser)
    _add_test_options(parser)
    _add_run_options(parser)
    parser.set_defaults(work=work)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds what concerns data and model."""
    group = parser.add_argument_group("data and model")
    group.add_argument(
        "--encoder", choices=("bilstm", "cnn", "average"), help="encoder (default: bilstm)"
    )
    group.add_argument(
        "--attention",
        choices=("additive", "scaled_dot"),
        help="scoring of the attention (default: additive)",
    )
    group.add_argument(
        "--vectors", metavar="FILE", help="pretrained word vectors in text format (GloVe, word2vec)"
    )
    group.add_argument(
        "--minimum-count", type=int, default=1, metavar="N",
        help="words rarer than this in training are unknown (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--epochs", type=int, metavar="N",
        help="most passes over the training texts (default: 8, or 16 for babi)",
    )  # fmt: skip
    group.add_argument(
        "--checkpoint", metavar="FILE", help="load this model instead of training one"
    )
    for name, what in (("text", "texts"), ("label", "labels"), ("split", "splits")):
        group.add_argument(f"--{name}", metavar="COLUMN", help=f"column of the {what}")


def _add_test_options(parser: argparse.ArgumentParser) -> None:
    """Adds what concerns the four tests."""
    group = parser.add_argument_group("tests")
    group.add_argument(
        "--epsilon", type=float, metavar="E",
        help="output change allowed to other attention (default: .01, or .05 for babi; published)",
    )  # fmt: skip
    group.add_argument(
        "--permutations", type=int, default=100, metavar="N",
        help="shuffles of each text (default: 100; published)",
    )  # fmt: skip
    group.add_argument(
        "--adversaries", type=int, default=5, metavar="K",
        help="other attentions searched for each text (default: 5; published)",
    )  # fmt: skip
    group.add_argument(
        "--minimum-words", type=int, default=1, metavar="N",
        help="test only texts of so many words or more (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--instances", type=int, metavar="N",
        help="test only so many texts, drawn at random (default: the whole test split)",
    )  # fmt: skip


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds what concerns the run as a whole."""
    group = parser.add_argument_group("run")
    group.add_argument(
        "--out", metavar="DIR",
        help="folder for the results (default: faithattn-results/TASK-ENCODER-ATTENTION-seedN)",
    )  # fmt: skip
    group.add_argument(
        "--seed", type=int, default=0, metavar="N",
        help="seed of data, training and tests (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--threads", type=int, default=1, metavar="N",
        help="threads to compute with (default: 1; models this small gain little from more, and "
        "lose much where other programs run)",
    )  # fmt: skip
    group.add_argument("--quiet", action="store_true", help="no progress bars, only the table")


def work(chosen: argparse.Namespace) -> int:
    """Runs the experiment, prints the table and writes the folder."""
    with failing(2, ValueError, TypeError, OSError, names=vars(chosen), memory=_LESS_MEMORY):
        check_threads(chosen.threads)
        import torch

        from faithattn.errors import AdapterError
        from faithattn.paper import report
        from faithattn.paper.experiment import prepare, run
        from faithattn.paper.experiment.study import CHECKPOINT

        torch.set_num_threads(chosen.threads)
        prepared = prepare(chosen.task, _settings(chosen), checkpoint=chosen.checkpoint)
        folder = report.prepare_folder(
            chosen.out or _default_folder(prepared.dataset.name, prepared.settings)
        )
    with failing(1, OSError, FloatingPointError, AdapterError, memory=_LESS_MEMORY):
        experiment = run(prepared, checkpoint=folder / CHECKPOINT, progress=not chosen.quiet)
        written = report.write_report(experiment, folder)
    print(report.text_table(experiment))
    print(f"\n{_times(experiment)}")
    print(f"Written to {folder}: {CHECKPOINT}, " + ", ".join(p.name for p in written[:4]), end="")
    print(f" and {len(written) - 4} figures. Begin with {folder / 'report.html'}.")
    return 0


def _settings(chosen: argparse.Namespace) -> Settings:
    """Returns the settings of a command line."""
    from dataclasses import fields

    from faithattn.paper.experiment import Settings

    given = {field.name for field in fields(Settings)} & set(vars(chosen))
    return Settings(**{name: getattr(chosen, name) for name in given})


def _default_folder(name: str, settings: Settings) -> Path:
    """Returns a folder whose name says what was done."""
    safe = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "task"
    return Path(
        "faithattn-results",
        f"{safe}-{settings.encoder}-{settings.attention}-seed{settings.seed}",
    )


def _times(experiment: Experiment) -> str:
    """Returns how long the steps took."""
    each = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in experiment.seconds.items())
    return f"Time: {each}."
