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
Trains a published model on a task (or loads one), runs the four published tests on the test
split, and the study's other experiments, prints what came out beside the published figures, and
writes results and figures to a folder.

data:
  babi-1, babi-2, babi-3   question answering over generated stories; needs no file. babi-1 takes
                           about two minutes, babi-2 and babi-3 many.
  generated                data of the shape that --task names, with a planted signal: the quickest
                           way to try a task; needs no file
  FILE or FOLDER           your data, as --task says. A folder holds a file (or, of questions, a
                           folder) for each split, named train, dev or valid, and test.

tasks (--task):
  texts      texts of one class each, two classes or more (default): .csv, .tsv, .jsonl. The columns
             text, label and split (train, dev, test) are found by their usual names, or named by
             you. Without splits, a tenth of each class is kept for dev and for test.
  documents  the same with texts of thousands of words, which stay on disk. Leaving out each of
             4,000 words takes seconds a text with --encoder average or cnn, minutes with a
             BiLSTM: begin with these, and with --instances.
  topics     the same with several classes
  labels     several independent labels a text: a column of labels joined by | or ;, a list in
             JSON, or a column of 0 and 1 for each label (--label fever,cough)
  pairs      premise and hypothesis, as SNLI's JSONL; the premise is attended to
  questions  passages with entities @entityN and questions with @placeholder, as CNN's .question
             files
  sst, imdb, tweet, agnews, 20news-sports, anemia, diab, hipsurgery, kneesurgery, mortality,
  readmission, phenotyping, snli, cnn
             the study's data sets: your copy is read as what it is, and the published figures are
             shown beside yours
"""
_EPILOG = """\
examples:
  faithattn reproduce babi-1
  faithattn reproduce sst_dataset.csv --encoder average --seed 1
  faithattn reproduce sst_dataset.csv --vectors glove.txt --out results/glove
  faithattn reproduce reviews.jsonl --text body --label stars --instances 200
  faithattn reproduce generated --task pairs
  faithattn reproduce snli_1.0/ --task snli --encoder average --instances 1000
  faithattn reproduce ag_news/ --task agnews --class World --class Business
  faithattn reproduce notes.csv --task labels --label fever,cough --maximum-words 4000
  faithattn reproduce babi-1 --checkpoint faithattn-results/babi-1-bilstm-additive-seed0/model.npz

what is written: report.html and summary.md (the same to read), results.json (settings, versions,
every summary), instances.csv (one row per tested text), model.npz (for --checkpoint),
figures/*.svg.
"""

_LESS_MEMORY = "Lower --batch-size, --adversaries or --permutations, or set --maximum-words."
_TYPED = {
    "data": "DATA",
    "classes": "--class",
    # What readers call what is typed otherwise, and each other.
    "labels": "--label",
    "read_texts": "--task texts",
}


def add_parser(commands: Any) -> None:
    """Adds the sub-command to those of ``faithattn``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "reproduce",
        help="train the published model on a task and run the four tests",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "data", metavar="DATA", help="babi-1, babi-2, babi-3, generated, or a file or folder"
    )
    _add_data_options(parser)
    _add_model_options(parser)
    _add_test_options(parser)
    _add_run_options(parser)
    parser.set_defaults(work=work)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    """Adds what concerns the data."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--task", metavar="TASK", help="what the data are, from the list above (default: texts)"
    )
    for name, what in (("text", "texts"), ("label", "labels"), ("split", "splits")):
        group.add_argument(f"--{name}", metavar="COLUMN", help=f"column of the {what}")
    group.add_argument(
        "--class", dest="classes", action="append", metavar="NAME",
        help="keep this class only; give it once for each, in their order (default: all)",
    )  # fmt: skip
    group.add_argument(
        "--maximum-words", type=int, metavar="N",
        help="cut texts, or passages, after so many words (default: cut none)",
    )  # fmt: skip
    group.add_argument(
        "--minimum-count", type=int, default=1, metavar="N",
        help="words rarer than this in training are unknown (default: 1)",
    )  # fmt: skip


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds what concerns the model."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--encoder", choices=("bilstm", "cnn", "average"), help="encoder (default: bilstm)"
    )
    group.add_argument(
        "--attention",
        choices=("additive", "scaled_dot", "log_odds"),
        help="scoring of the attention; log_odds is fixed: what a logistic regression says of each "
        "word (default: additive)",
    )
    group.add_argument(
        "--tie-attention", type=float, default=0.0, metavar="W",
        help="weight of a penalty on the divergence from log-odds attention (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--vectors", metavar="FILE", help="pretrained word vectors in text format (GloVe, word2vec)"
    )
    group.add_argument(
        "--epochs", type=int, metavar="N",
        help="most passes over the training texts (default: 8, or 16 for questions and pairs)",
    )  # fmt: skip
    group.add_argument(
        "--batch-size", type=int, default=32, metavar="N",
        help="texts in a batch, in training and in the tests (default: 32; published)",
    )  # fmt: skip
    group.add_argument(
        "--checkpoint", metavar="FILE", help="load this model instead of training one"
    )


def _add_test_options(parser: argparse.ArgumentParser) -> None:
    """Adds what concerns the four tests."""
    group = parser.add_argument_group("tests")
    group.add_argument(
        "--epsilon", type=float, metavar="E",
        help="output change allowed to other attention (default: .01, or .05 for questions and "
        "pairs; published)",
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
    bad = (ValueError, TypeError, OSError)
    with failing(2, *bad, names=_TYPED | vars(chosen), typed=_TYPED, memory=_LESS_MEMORY):
        check_threads(chosen.threads)
        import torch

        from faithattn.errors import AdapterError
        from faithattn.paper import report
        from faithattn.paper.experiment import prepare, run
        from faithattn.paper.experiment.study import CHECKPOINT

        torch.set_num_threads(chosen.threads)
        prepared = prepare(chosen.data, _settings(chosen), checkpoint=chosen.checkpoint)
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
    options = {name: getattr(chosen, name) for name in given}
    if options["classes"] is not None:
        options["classes"] = tuple(options["classes"])
    return Settings(**options)


def _default_folder(name: str, settings: Settings) -> Path:
    """Returns a folder whose name says what was done."""
    safe = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "task"
    # Beside the model without the penalty, to be compared with it.
    tied = f"-tied{settings.tie_attention:g}" if settings.tie_attention else ""
    return Path(
        "faithattn-results",
        f"{safe}-{settings.encoder}-{settings.attention}{tied}-seed{settings.seed}",
    )


def _times(experiment: Experiment) -> str:
    """Returns how long the steps took."""
    each = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in experiment.seconds.items())
    return f"Time: {each}."
