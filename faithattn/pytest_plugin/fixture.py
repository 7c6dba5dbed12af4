"""The fixture ``faithfulness``: the assertions, known to the session that runs them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from faithattn.pytest_plugin.folder import folder_of
from faithattn.pytest_plugin.names import file_name
from faithattn.pytest_plugin.settings import for_baselines, for_limits, settings_of

if TYPE_CHECKING:
    from faithattn.audits.report import Report
    from faithattn.metrics.scores.question import Score
    from faithattn.testing.checking import Checked
    from faithattn.testing.finding import Finding

CHECKS = pytest.StashKey[list[dict[str, Any]]]()


class Faithfulness:
    """Assertions on faithfulness whose evidence goes to the session's table and report.

    What they take is what those of ``faithattn.testing`` take; seed and other
    settings come from the command line and the marker unless they are given.
    """

    def __init__(
        self,
        baselines: Path,
        settings: dict[str, Any],
        *,
        update: bool,
        remedy: str,
        record: Callable[[dict[str, Any]], None],
        write: Callable[[int, Report], dict[str, Any]] | None,
    ) -> None:
        self._baselines = baselines
        self._settings = settings
        self._update = update
        self._remedy = remedy
        self._record = record
        self._write = write
        self._written = 0
        self._checked: set[str] = set()

    def assert_metric(
        self, metric: str | Score, model: object, batches: Iterable[Any], **settings: Any
    ) -> Finding:
        """:func:`faithattn.testing.assert_metric` of any metric."""
        __tracebackhide__ = True
        from faithattn.testing.asserting import examine
        from faithattn.testing.finding import CANNOT_TELL

        given = for_limits(self._settings) | settings
        found = examine(metric, model, batches, **given)
        skipped = found.outcome == CANNOT_TELL and found.limits.undecided == "skip"
        self._record(found.to_dict() | {"skipped": skipped} | self._page(found.report))
        return found.settle()

    def assert_gradient_correlation(
        self, model: object, batches: Iterable[Any], **settings: Any
    ) -> Finding:
        """:func:`faithattn.testing.assert_gradient_correlation`."""
        __tracebackhide__ = True
        return self.assert_metric("gradient_correlation", model, batches, **settings)

    def assert_loo_correlation(
        self, model: object, batches: Iterable[Any], **settings: Any
    ) -> Finding:
        """:func:`faithattn.testing.assert_loo_correlation`."""
        __tracebackhide__ = True
        return self.assert_metric("loo_correlation", model, batches, **settings)

    def assert_permutation_effect(
        self, model: object, batches: Iterable[Any], **settings: Any
    ) -> Finding:
        """:func:`faithattn.testing.assert_permutation_effect`."""
        __tracebackhide__ = True
        return self.assert_metric("permutation_test", model, batches, **settings)

    def assert_adversarial_distance(
        self, model: object, batches: Iterable[Any], **settings: Any
    ) -> Finding:
        """:func:`faithattn.testing.assert_adversarial_distance`."""
        __tracebackhide__ = True
        return self.assert_metric("adversarial_attention", model, batches, **settings)

    def assert_single_weight_erasure(
        self, model: object, batches: Iterable[Any], **settings: Any
    ) -> Finding:
        """:func:`faithattn.testing.assert_single_weight_erasure`."""
        __tracebackhide__ = True
        return self.assert_metric("single_weight_erasure", model, batches, **settings)

    def assert_erasure_to_flip(
        self, model: object, batches: Iterable[Any], **settings: Any
    ) -> Finding:
        """:func:`faithattn.testing.assert_erasure_to_flip`."""
        __tracebackhide__ = True
        return self.assert_metric("erasure_to_flip", model, batches, **settings)

    def check(
        self, model: object, batches: Iterable[Any], *, name: str = "", **settings: Any
    ) -> Checked:
        """:func:`faithattn.testing.check_baseline` with the test's own baseline.

        Args:
            model: An :class:`~faithattn.AttentionModel` or a plain ``nn.Module``.
            batches: Inputs or ``Batch`` objects.
            name: What the baseline is called where a test has several.
            settings: What :func:`~faithattn.testing.check_baseline` takes, such
                as ``metrics`` and ``tolerance``.

        Returns:
            The changes, which print themselves.

        Raises:
            AssertionError: If a metric changed, or there is no baseline of
                these data and settings.
        """
        __tracebackhide__ = True
        from faithattn.testing.checking import compared

        if name in self._checked:
            raise ValueError(
                f"name must be used once in a test; got {name!r} twice. "
                "Give each check a name of its own."
            )
        self._checked.add(name)
        stem = f"{self._baselines.name}.{file_name(name)}" if name else self._baselines.name
        found = compared(
            model,
            batches,
            self._baselines.with_name(f"{stem}.json"),
            **for_baselines(self._settings) | settings,
            update=self._update,
            remedy=self._remedy,
        )
        page = self._page(found.report)
        for each in found.to_dicts():
            self._record(each | page)
        return found.settle()

    def _page(self, report: Report | None) -> dict[str, Any]:
        """Writes the page of a check where the session has a report, and says where it is."""
        if self._write is None or report is None:
            return {}
        self._written += 1
        return self._write(self._written, report)


@pytest.fixture
def faithfulness(request: pytest.FixtureRequest) -> Faithfulness:
    """Assertions on faithfulness, and ``check`` against a stored baseline."""
    item: pytest.Item = request.node
    seed = request.config.getoption("--faithattn-seed")
    folder = folder_of(request.config)
    return Faithfulness(
        _baselines(item),
        settings_of(item, seed),
        update=request.config.getoption("--faithattn-update"),
        remedy=_remedy(item, seed),
        record=item.stash.setdefault(CHECKS, []).append,
        write=None if folder is None else partial(folder.write_report, item.nodeid),
    )


def _baselines(item: pytest.Item) -> Path:
    """The test's file of baselines, without its ending."""
    # Node ids of xdist may hold the name of a group; the names of the nodes do not.
    parts = [each.name for each in item.listchain() if isinstance(each, pytest.Class)]
    test = file_name(".".join([*parts, item.name]))
    given = item.config.getoption("--faithattn-baselines")
    if given is None:
        return item.path.parent / "faithattn-baselines" / item.path.stem / test
    inside = item.path.is_relative_to(item.config.rootpath)
    module = item.path.relative_to(item.config.rootpath) if inside else Path(item.path.name)
    folder: Path = item.config.invocation_params.dir / given
    return folder / module.with_suffix("") / test


def _remedy(item: pytest.Item, seed: int) -> str:
    """The command that writes the baseline of a test."""
    given = item.config.getoption("--faithattn-baselines")
    words = ["pytest", item.nodeid, "--faithattn-update"]
    words += [] if given is None else ["--faithattn-baselines", given]
    words += ["--faithattn-seed", str(seed)] if seed else []
    return shlex.join(words)
