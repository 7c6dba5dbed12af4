"""``faithattn audit``: a model and a data set of your own, from the terminal or under torchrun."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faithattn.cli.errors import CommandError
from faithattn.cli.guards import check_threads, failing
from faithattn.cli.limits import add_limits, check_limits, exceeded
from faithattn.cli.thresholds import add_thresholds, thresholds_of

if TYPE_CHECKING:
    from faithattn.adapters.view import AttentionView

_DESCRIPTION = """\
Runs tests of attention over a data set, and writes a report: a verdict for each test with its
evidence and intervals, and every instance's numbers. Run again after a failure or being killed, the
same command goes on where it was.

MODEL is package.module:name, a model or a function without arguments that makes one. --data is
package.module:name, something that yields batches or a function that returns it, or a file:
  FILE.npz, FILE.pt   arrays with one row an instance, named as the model's arguments (labels and
                      clusters are taken out); a single array is passed as it is
  FILE.jsonl          one object a line: with input_ids (and perhaps token_type_ids, label, tokens,
                      cluster), or anything that the function named by --prepare makes inputs of
"""
_EPILOG = """\
examples:
  faithattn audit my.models:load --data my.data:batches --out results/mine
  faithattn audit my.models:bert --data texts.jsonl --prepare my.data:encode --cls -1
  faithattn audit my.models:load --data test.npz --metrics permutation_test:n_permutations=500
                  loo_correlation --removal mask_token --out results/mine
  faithattn audit my.models:load --data test.npz --fail-below gradient_correlation .3
  torchrun --nproc-per-node 4 -m faithattn audit my.models:load --data test.npz --out results/mine
  faithattn audit my.models:load --data test.npz --out results/part7 --shard 7/20

exit status: 0 done, 1 failed on the way or on every batch, 2 something wrong with the command, its
model or its data, 3 done and a limit of --fail-below or --fail-above is not met, 130 interrupted,
143 ended by a scheduler. After 1, 130 and 143 the same command goes on where it was.
"""
_LESS_MEMORY = "Lower --batch-size, or n_permutations and n_adversaries."
_OPTION = re.compile(r"(\w+)=(.*)")


def add_parser(commands: Any) -> None:
    """Adds the sub-command to those of ``faithattn``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "audit",
        help="run the tests over your own model and data set",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="package.module:name of your model")
    _add_data(parser)
    _add_question(parser)
    _add_run(parser)
    add_limits(parser)
    parser.set_defaults(work=work)


def _add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data", required=True, metavar="DATA", help="package.module:name of your batches, or FILE"
    )
    group.add_argument(
        "--prepare", metavar="NAME",
        help="package.module:name of a function from what the data yield to inputs, or to a Batch",
    )  # fmt: skip
    group.add_argument(
        "--batch-size", type=int, default=32, metavar="N",
        help="instances in a batch of a file (default: 32)",
    )  # fmt: skip


def _add_question(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is asked")
    group.add_argument(
        "--metrics", nargs="+", metavar="NAME[:OPTION=VALUE,...]",
        help="tests and metrics, such as permutation_test:n_permutations=500 (default: "
        "gradient_correlation, loo_correlation, permutation_test and adversarial_attention)",
    )  # fmt: skip
    group.add_argument(
        "--removal", default="delete", metavar="NAME",
        help="how positions are left out, such as mask_token or mask_attention (default: delete)",
    )  # fmt: skip
    view = group.add_mutually_exclusive_group()
    view.add_argument(
        "--site",
        metavar="NAME",
        help="the attention that is meant, by the name of its site; needed only where a model has "
        "several rows, and then an error lists them",
    )
    view.add_argument(
        "--cls", type=int, metavar="LAYER",
        help="the row of the first token in a layer, -1 for the last",
    )  # fmt: skip
    view.add_argument(
        "--last-query", type=int, metavar="LAYER",
        help="the row of the last token in a layer, -1 for the last",
    )  # fmt: skip
    view.add_argument(
        "--view", metavar="NAME",
        help="package.module:name of an AttentionView, or of a mapping from names to views",
    )  # fmt: skip
    group.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the draws (default: 0)"
    )
    add_thresholds(group)


def _add_run(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument(
        "--out", metavar="DIR",
        help="folder for the results; one that was begun goes on (default: "
        "faithattn-results/audit-MODEL)",
    )  # fmt: skip
    group.add_argument(
        "--on-error", choices=("raise", "record"), default="raise",
        help="stop at the first batch that fails, or record why and go on (default: raise)",
    )  # fmt: skip
    group.add_argument(
        "--shard", metavar="I/N", help="take every Nth batch, from the Ith (0 to N-1)"
    )
    group.add_argument(
        "--device", metavar="NAME",
        help="where model and inputs go, such as cuda (default: where they are)",
    )  # fmt: skip
    group.add_argument(
        "--threads", type=int, default=1, metavar="N",
        help="threads of each process (default: 1; results are the same bits for the same number)",
    )  # fmt: skip
    group.add_argument(
        "--no-positions", action="store_true",
        help="do not keep the scores of every position (smaller; pages show no instances)",
    )  # fmt: skip
    group.add_argument("--quiet", action="store_true", help="no progress bar, only the table")


def work(chosen: argparse.Namespace) -> int:
    """Audits, prints the table and writes the report."""
    names = set(vars(chosen)) | {"data"}
    with _group(chosen.device) as device, _ended_from_outside(chosen):
        with failing(2, ValueError, TypeError, OSError, names=names, memory=_LESS_MEMORY):
            model, batches, options = _asked(chosen, device)

            from faithattn.audits.audit import audit
            from faithattn.errors import AdapterError, AuditError
        with failing(
            2, ValueError, TypeError, OSError, AdapterError, AuditError,
            names=names, memory=_LESS_MEMORY,
        ), _views_as_options():  # fmt: skip
            report = audit(model, batches, progress=not chosen.quiet, **options)
        if int(os.environ.get("RANK", "0")):
            return 0
        with failing(1, OSError, AuditError, memory=_LESS_MEMORY):
            _finish(report)
        _require_any(report)
        with failing(2, ValueError, memory=_LESS_MEMORY):
            return exceeded(report, chosen) if report.complete else 0


def _asked(chosen: argparse.Namespace, device: str | None) -> tuple[Any, Any, dict[str, Any]]:
    """Model, batches and the other arguments of audit(), all checked that can be beforehand."""
    check_threads(chosen.threads)
    import torch

    from faithattn.audits.arguments import check_device
    from faithattn.cli.loading import batches_at, model_at

    torch.set_num_threads(chosen.threads)
    prepare, metrics, view = _prepare(chosen), metrics_of(chosen.metrics), _view(chosen)
    several = view if isinstance(view, Mapping) and len(view) > 1 else ()
    check_limits(chosen, metrics, several)
    options = {
        "metrics": metrics,
        "thresholds": thresholds_of(chosen),
        "view": view,
        "removal": chosen.removal,
        "seed": chosen.seed,
        "out": chosen.out or _default_folder(chosen.model),
        "prepare": prepare,
        "on_error": chosen.on_error,
        "shard": shard_of(chosen.shard),
        "device": device,
        "keep_positions": not chosen.no_positions,
    }
    check_device(device)
    model = model_at(chosen.model)
    if device is not None and hasattr(model, "to"):
        model = model.to(device)
    return model, batches_at(chosen.data, chosen.batch_size, prepare), options


def _prepare(chosen: argparse.Namespace) -> Any:
    """The function that ``--prepare`` names, whose errors are told as its own; None without."""
    if not chosen.prepare:
        return None
    from faithattn.audits.arguments import check_prepare
    from faithattn.cli.loading import object_at
    from faithattn.cli.yours import prepare_of_yours

    prepare = object_at(chosen.prepare, "prepare")
    check_prepare(prepare)
    return prepare_of_yours(chosen.prepare, prepare)


def _finish(report: Any) -> None:
    """Prints the report, and writes it if it is finished."""
    print(report)
    if not report.complete:
        missing = len(report.store.missing())
        left = "1 batch is" if missing == 1 else f"{missing or 'some'} batches are"
        print(
            f"\nNot finished: {left} left to other shards, or to run again. Written to "
            f"{report.folder}; faithattn report shows what is there."
        )
        return
    written = report.write(report.folder)
    print(f"\nWritten to {report.folder}. Begin with {written[0]}.")


def _require_any(report: Any) -> None:
    """Ends the command where nothing at all could be measured: that is no result of an audit."""
    reasons = [each.reason for each in report.failures if not each.metric]
    if reasons and len(reasons) == report.provenance["batches"]:
        raise CommandError(
            f"MODEL must run on one batch at least; got {reasons[0].rstrip('.')} and the like for "
            "every one. Call it in Python to see where, and run the same command again.",
            status=1,
        )


def metrics_of(names: list[str] | None) -> dict[str, dict[str, Any]] | None:
    """Metrics and their options as they are typed.

    Examples:
        >>> metrics_of(["permutation_test:n_permutations=50", "loo_correlation"])
        {'permutation_test': {'n_permutations': 50}, 'loo_correlation': {}}
    """
    if names is None:
        return None
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        metric, _, rest = name.partition(":")
        if metric in found:
            raise ValueError(
                f"metrics must be named once each; got {metric} twice. Write its options after "
                "one colon, with commas between them."
            )
        found[metric] = {}
        for part in filter(None, rest.split(",")):
            matched = _OPTION.fullmatch(part.strip())
            if matched is None:
                raise ValueError(
                    f"metrics must give options as OPTION=VALUE; got {part!r}. "
                    "Write permutation_test:n_permutations=500."
                )
            found[metric][matched[1]] = _value(matched[2])
    return found


def _value(text: str) -> Any:
    """A number, true, false, null, or the text itself."""
    try:
        return json.loads(re.sub(r"^(-?)\.", r"\g<1>0.", text))
    except ValueError:
        return text


def shard_of(text: str | None) -> tuple[int, int] | None:
    """A shard as it is typed.

    Examples:
        >>> shard_of("7/20")
        (7, 20)
    """
    if text is None:
        return None
    matched = re.fullmatch(r"(\d+)/(\d+)", text)
    if matched is None:
        raise ValueError(f"shard must be I/N; got {text!r}. Write 0/4 for the first of four.")
    return int(matched[1]), int(matched[2])


def _view(chosen: argparse.Namespace) -> AttentionView | dict[str, AttentionView] | None:
    """The view that the options name."""
    from faithattn.adapters.view import AttentionView
    from faithattn.cli.loading import object_at

    if chosen.site is not None:
        return AttentionView(chosen.site)
    if chosen.cls is not None:
        return AttentionView.cls(layer=chosen.cls)
    if chosen.last_query is not None:
        return AttentionView.last_query(layer=chosen.last_query)
    if chosen.view is None:
        return None
    found: Any = object_at(chosen.view, "view")
    view: AttentionView | dict[str, AttentionView] = found() if callable(found) else found
    return view


@contextmanager
def _views_as_options() -> Iterator[None]:
    """Says by which options a view is chosen, where one is needed."""
    from faithattn.errors import AdapterError

    try:
        yield
    except AdapterError as error:
        if not str(error).startswith("view must say"):
            raise
        raise AdapterError(f"{error} Here: --cls -1, --last-query -1, --site or --view.") from error


def _default_folder(model: str) -> Path:
    safe = re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model"
    return Path("faithattn-results", f"audit-{safe}")


@contextmanager
def _group(device: str | None) -> Iterator[str | None]:
    """The process group of torchrun, where it started this process."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield device
        return
    import torch
    import torch.distributed as dist

    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    dist.init_process_group("gloo" if device is None or device == "cpu" else "cpu:gloo,cuda:nccl")
    try:
        yield device
    finally:
        from faithattn.audits.workers import part

        part()
        dist.destroy_process_group()


@contextmanager
def _ended_from_outside(chosen: argparse.Namespace) -> Iterator[None]:
    """Says how to go on where a scheduler, or the end of another process, ends this one."""

    def end(number: int, _: object) -> None:
        out = chosen.out or _default_folder(chosen.model)
        sys.stderr.write(
            f"\nfaithattn audit: ended from outside ({signal.Signals(number).name}). What is "
            f"finished is kept in {out}; run the same command again to go on.\n"
        )
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
