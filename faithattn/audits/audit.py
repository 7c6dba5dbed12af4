"""audit(): from a model and batches to a report, in one call."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from faithattn._version import __version__
from faithattn.adapters.reading import as_adapter
from faithattn.adapters.view import AttentionView
from faithattn.audits.arguments import (
    as_folder,
    as_thresholds,
    check_device,
    check_on_error,
    check_prepare,
)
from faithattn.audits.feeding import Prepare
from faithattn.audits.headlines import own_headlines
from faithattn.audits.measuring.plan import Plan
from faithattn.audits.report import Report
from faithattn.audits.running import Running
from faithattn.audits.store import SCHEMA, Manifest, Store, digest_of_model
from faithattn.audits.store import merge as merge_stores
from faithattn.audits.store.files import fleeting
from faithattn.audits.verdicts.thresholds import Thresholds
from faithattn.audits.workers import Workers, workers_of
from faithattn.importance.leave_one_out import Removal
from faithattn.metrics.scores.question import Score

_KEPT = "What is finished is kept in {}; run the same command again to go on."
_PACKAGES = ("torch", "numpy", "scipy")


def audit(
    model: object,
    batches: Iterable[Any],
    *,
    metrics: Sequence[str | Score] | Mapping[str, Mapping[str, Any]] | None = None,
    view: AttentionView | Mapping[str, AttentionView] | None = None,
    removal: Removal = "delete",
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    prepare: Prepare | None = None,
    on_error: str = "raise",
    shard: tuple[int, int] | None = None,
    thresholds: Thresholds | None = None,
    device: torch.device | str | None = None,
    controls: bool = True,
    keep_positions: bool = True,
    progress: bool = False,
) -> Report:
    """Runs tests of attention over a whole data set, and says what follows.

    What is finished is on disk, batch by batch, and memory does not grow with
    the data. Run again with the same ``out``, after a failure or being killed
    at any moment, it goes on where it was and ends with the same numbers. The
    batch is the unit of work: the same batches give the same bits, whatever
    the number of processes.

    Within an initialised process group of PyTorch (as under ``torchrun``), the
    processes deal the batches among them if there is an ``out``, which they must
    share: all call this, with all batches in the same order. Without ``out``,
    or as ``shard=(0, 1)``, a process works alone, whatever the others do.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        batches: Batches of what the model takes, or of :class:`Batch`, such as
            a DataLoader that does not shuffle.
        metrics: Names of tests and metrics, :class:`Score` objects of your
            own, or a mapping from names to options, as in
            ``{"permutation_test": {"n_permutations": 500}}``. None runs the
            four published tests.
        view: Which attention is meant; not needed for one row. A mapping from
            names to views asks every metric about each; see :func:`head_views`.
        removal: How positions are taken away; see
            :func:`leave_one_out_importance`.
        seed: Seed of whatever is drawn, by instance.
        out: Folder for what is found, made if need be; None keeps it for as
            long as the report lives.
        prepare: Makes inputs or a :class:`Batch` of what ``batches`` yields,
            such as ``lambda pair: Batch(pair[0], labels=pair[1])``.
        on_error: ``"raise"`` stops at the first failure, also at one that was
            recorded before if it comes again; ``"record"`` keeps its reason, and goes on.
        shard: Number of this shard, from 0, and of how many, for job arrays:
            it takes every so-many-th batch. Shards may share ``out``, or have
            one each for :func:`merge`.
        thresholds: Where the verdicts draw their lines; None for the calibrated ones.
        device: Where inputs are moved; None leaves them.
        controls: Whether random and uniform explanations are measured beside.
        keep_positions: Whether the scores of every position are kept, for the
            pages that show instances.
        progress: Show a bar with the time left on standard error.

    Returns:
        Evidence with intervals, verdicts and every instance's numbers. A shard
        gets the report of what is finished so far.

    Raises:
        AdapterError: If the model cannot be read.
        AuditError: If model, data or settings are not those of the audit in
            ``out``, the folder cannot be written, or another process is gone.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> batches = [torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])]
        >>> report = audit(TextClassifier(9), batches, metrics=["permutation_test"])
        >>> len(report), report.evidence[0].quantity
        (2, 'median TVD of shuffles')
    """
    check_on_error(on_error)
    check_prepare(prepare)
    check_device(device)
    thresholds = as_thresholds(thresholds)
    plan = Plan.of(
        metrics, view, seed, removal=removal, controls=controls, keep_positions=keep_positions
    )
    adapter, workers = as_adapter(model), workers_of(shard, shared=out is not None)
    folder = _folder(out, workers)
    begin = partial(Store.begin, folder, _manifest(model, plan), worker=workers.name)
    running = Running(adapter, plan, workers, on_error == "record", device, progress)
    if out is not None:
        _run(running, folder, begin, batches, prepare)
        return Report.open(folder, thresholds=thresholds)
    try:
        with fleeting():
            _run(running, folder, begin, batches, prepare)
        report = Report.open(folder, thresholds=thresholds)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(report, _remove, folder, os.getpid())
    return report


def _remove(folder: Path, owner: int) -> None:
    """Removes a folder, unless this is a forked child of the process that it belongs to."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _run(
    running: Running,
    folder: Path,
    begin: Callable[[], Store],
    batches: Iterable[Any],
    prepare: Prepare | None,
) -> None:
    """Measures what is missing, and once all is there puts it into columns."""
    workers, kept = running.workers, _KEPT.format(folder)
    with ExitStack() as held:
        with workers.together(kept):
            store = held.enter_context(begin())
            with torch.inference_mode(False):  # or what the loader makes could have no gradient
                running.over(batches, prepare, store)
        with workers.together(kept):
            if workers.leads and store.is_complete:
                store.finish()


def merge(
    folders: Sequence[str | PathLike[str]],
    out: str | PathLike[str],
    *,
    thresholds: Thresholds | None = None,
) -> Report:
    """Joins the folders that the shards of an audit wrote.

    Args:
        folders: Folders of one audit, each with some of its batches. A batch
            that several have must be the same in all, to the bit.
        out: A new folder, or one that a merge of the same audit was writing.
        thresholds: Where the verdicts draw their lines; None for the calibrated ones.

    Returns:
        The report of the whole.

    Raises:
        TypeError: If it is one folder, not several.
        ValueError: If no folder is given.
        AuditError: If the folders are of different audits or data, or a batch
            is missing in all of them, or differs between them.

    Examples:
        >>> import tempfile
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model, batches = TextClassifier(9), [torch.tensor([[2, 5, 6, 7, 3]])] * 3
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     parts = [f"{folder}/{shard}" for shard in range(2)]
        ...     for shard, part in enumerate(parts):
        ...         _ = audit(model, batches, out=part, shard=(shard, 2))
        ...     len(merge(parts, f"{folder}/all"))
        3
    """
    if isinstance(folders, str | PathLike):
        raise TypeError(
            f"folders must be several, one a shard; got {folders!r}. Pass them in a list."
        )
    thresholds = as_thresholds(thresholds)
    merge_stores([as_folder("folders", each) for each in folders], as_folder("out", out))
    return Report.open(out, thresholds=thresholds)


def _folder(out: str | PathLike[str] | None, workers: Workers) -> Path:
    """Where the audit goes; if nowhere, a folder for as long as the report lives."""
    if out is not None:
        return as_folder("out", out).absolute()
    if workers.count > 1:
        raise ValueError(
            "out must name a folder that all workers share; got None. Pass one on a disk that all "
            "of them see."
        )
    return Path(tempfile.mkdtemp(prefix="faithattn-audit-"))


def _manifest(model: object, plan: Plan) -> Manifest:
    """All that the numbers depend on, but for the data."""
    return Manifest(
        SCHEMA,
        plan.to_dict() | {"headlines": own_headlines(plan)},
        digest_of_model(model),
        _versions(),
        plan.columns,
    )


@cache
def _versions() -> dict[str, str]:
    """Versions of what computes; reading them takes longer than a small batch."""
    return {"faithattn": __version__} | {name: version(name) for name in _PACKAGES}
