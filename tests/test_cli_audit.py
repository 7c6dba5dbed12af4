"""The commands around audits, as scripts use them."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import fails

from faithattn import Report
from faithattn.cli import main
from faithattn.cli.loading import batches_at

ROOT = Path(__file__).parent.parent
# Names of their own: modules that are imported once stay.
MODULE = """
import os, time
import torch
from faithattn import AttentionView, Batch
from faithattn.paper.models import TextClassifier
from faithattn.paper.training import build

def model():
    options = {"embedding_size": 8, "hidden_size": 4}
    return build(lambda: TextClassifier(30, encoder="average", **options), seed=0)

def data():
    generator = torch.Generator().manual_seed(1)
    for number in range(int(os.environ.get("BATCHES", "4"))):
        time.sleep(float(os.environ.get("PAUSE", "0")))
        if os.environ.get("DIES") == os.environ.get("RANK", "") and number == 2:
            os.kill(os.getpid(), 9)
        ids = torch.randint(4, 30, (3, 8), generator=generator)
        ids[:, 0], ids[:, -1] = 2, 3
        yield ids

def encode(rows):
    ids = torch.tensor([row["words"] for row in rows])
    return Batch(ids, labels=[row["stars"] for row in rows])

views = {name: AttentionView("attention") for name in "ab"}
nothing = 5

def broken(*given):
    raise KeyError("weights")

def failing():
    return Failing()

class Weighing(torch.nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale, self.embed = scale, torch.nn.Embedding(30, 2)
        with torch.no_grad():
            self.embed.weight.copy_(torch.randn(30, 2, generator=torch.Generator().manual_seed(3)))

    def forward(self, ids):
        states = self.embed(ids)
        attention = (self.scale * states[..., 0]).softmax(-1)
        return (attention[..., None] * states).sum(1)

def sharp():
    return Weighing(4.0)

def flat():
    return Weighing(0.0)

class Failing(torch.nn.Module):
    def forward(self, ids):
        raise ArithmeticError("odd")

def breaking():
    yield torch.ones(2, 4, dtype=torch.long)
    broken()
"""
MODEL = "faithattn_audited:model"
DATA = "faithattn_audited:data"
VIEWED = [MODEL, "--data", DATA, "--view", "faithattn_audited:views"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a module of one's own."""
    (tmp_path / "faithattn_audited.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)
    sys.modules.pop("faithattn_audited", None)


def says(arguments: list[str], capsys: pytest.CaptureFixture[str], status: int = 0) -> str:
    assert main(arguments) == status
    return capsys.readouterr().out


def test_audit_report_compare_and_merge(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = ["--quiet", "--metrics", "permutation_test:n_permutations=20", "loo_correlation"]
    out = says(["audit", MODEL, "--data", DATA, "--out", "whole", *quiet], capsys)
    assert "Does attention explain TextClassifier?" in out and "Begin with" in out
    for name in ("report.html", "report.md", "report.json", "instances.csv"):
        assert (folder / "whole" / name).is_file()
    assert json.loads(says(["report", "whole", "--json"], capsys))["schema_version"] >= 1
    for shard in range(2):
        arguments = ["audit", MODEL, "--data", DATA, "--shard", f"{shard}/2", *quiet]
        assert "Not finished" in says([*arguments, "--out", f"part{shard}"], capsys)
    assert "Written to joined" in says(["merge", "part0", "part1", "--out", "joined"], capsys)
    one, other = Report.open("whole"), Report.open("joined")
    assert all(np.array_equal(one.column(c), other.column(c), equal_nan=True) for c in one.columns)
    assert "each instance with itself" in says(["compare", "whole", "joined"], capsys)
    changes = json.loads(says(["compare", "whole", "joined", "--json"], capsys))
    assert {each["mean"] for each in changes["changes"]} == {0.0}


def test_limits_set_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["audit", MODEL, "--data", DATA, "--out", "a", "--quiet"]
    arguments += ["--metrics", "permutation_test"]
    assert main([*arguments, "--fail-below", "permutation_test", "-1"]) == 0
    assert main([*arguments, "--fail-below", "permutation_test", ".99"]) == 3
    assert "must not be below 0.99" in capsys.readouterr().err
    assert main(["report", "a", "--fail-above", "permutation_test", "1"]) == 0
    assert main(["report", "a", "--fail-above", "permutation_test", "0"]) == 3
    capsys.readouterr()
    unknown = ["report", "a", "--fail-below", "x", "1"]
    assert "one of permutation_test" in fails(unknown, capsys, silent=False)


def test_a_limit_is_on_the_end_of_the_interval(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["audit", "faithattn_audited:sharp", "--data", DATA, "--out", "a", "--quiet"]
    assert main([*arguments, "--metrics", "permutation_test"]) == 0
    found = Report.open("a").evidence[0].overall
    for limit, value, status in (
        ("below", found.low - 0.001, 0),
        ("below", (found.low + found.mean) / 2, 3),
        ("above", found.high + 0.001, 0),
        ("above", (found.high + found.mean) / 2, 3),
    ):
        assert main(["report", "a", f"--fail-{limit}", "permutation_test", str(value)]) == status
    capsys.readouterr()


def test_what_is_less_faithful_may_set_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("sharp", "flat"):
        arguments = ["audit", f"faithattn_audited:{name}", "--data", DATA, "--out", name]
        says([*arguments, "--quiet", "--metrics", "permutation_test"], capsys)
    assert "less faithful" in says(["compare", "sharp", "flat"], capsys)
    assert "less faithful" in says(["compare", "sharp", "flat", "--fail-if-worse"], capsys, 3)
    assert "more faithful" in says(["compare", "flat", "sharp", "--fail-if-worse"], capsys)


def test_thresholds_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["audit", MODEL, "--data", DATA, "--out", "a", "--quiet"]
    arguments += ["--metrics", "permutation_test"]
    lines = ["--threshold", "least_change", "1e-9", "--threshold", "most_idle_change", "0"]
    assert "SUPPORTS" in says([*arguments, *lines], capsys)
    assert "CONTRADICTS" in says(["report", "a"], capsys)
    assert "SUPPORTS" in says(["report", "a", *lines], capsys)
    for wrong, said in (
        (["x", "1"], "--threshold must be one of least_tau"),
        (["least_tau", "much"], "--threshold must have a number; got 'much' for least_tau"),
        (["least_instances", "2.5"], "whole number"),
        (["least_tau", "7"], "least_tau must be in -1..1"),
    ):
        assert said in fails(["report", "a", "--threshold", *wrong], capsys)


def test_data_from_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = torch.randint(4, 30, (7, 8), generator=torch.Generator().manual_seed(0))
    known = {"labels": np.arange(7) % 2, "clusters": np.arange(7) // 2}
    np.savez(folder / "ids.npz", inputs=ids.numpy(), **known)
    torch.save(ids, folder / "ids.pt")
    rows = [{"words": row, "stars": place % 2} for place, row in enumerate(ids.tolist())]
    lines = "\n".join(map(json.dumps, rows))
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    found = []
    for number, given in enumerate((
        ["ids.npz"], ["ids.pt"], ["rows.jsonl", "--prepare", "faithattn_audited:encode"],
    )):  # fmt: skip
        arguments = ["audit", MODEL, "--data", *given, "--batch-size", "3", "--out", str(number)]
        says([*arguments, "--quiet", "--metrics", "permutation_test"], capsys)
        found.append(Report.open(str(number)))
    values = [report.column("permutation_test.median_tvd").tolist() for report in found]
    assert values[0] == values[1] == values[2]
    assert [report.column("label").tolist() for report in found] == [
        [0, 1, 0, 1, 0, 1, 0], [-1] * 7, [0, 1, 0, 1, 0, 1, 0],
    ]  # fmt: skip
    assert found[0].clusters.tolist() == [0, 0, 1, 1, 2, 2, 3] and found[1].clusters is None


def test_rows_of_words_are_padded(folder: Path) -> None:
    rows = [
        {"input_ids": [5, 6, 7], "label": 1, "cluster": "a", "tokens": ["x", "y", "z"]},
        {"input_ids": [8], "label": 0, "cluster": "b", "tokens": ["w"]},
        {"input_ids": [9, 3], "token_type_ids": [0, 1]},
    ]
    lines = "\n\n".join(map(json.dumps, rows))
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    batches = batches_at("rows.jsonl", 2, None)
    assert len(batches) == 2
    first, second = batches
    assert {name: value.tolist() for name, value in first.inputs.items()} == {
        "input_ids": [[5, 6, 7], [8, 0, 0]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
    }
    assert (first.labels, first.clusters) == ([1, 0], ["a", "b"])
    assert first.tokens == [["x", "y", "z"], ["w"]]
    assert second.inputs["token_type_ids"].tolist() == [[0, 1]] and second.labels is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([MODEL.replace("model", "none"), "--data", DATA], "MODEL must name something"),
        (["no.such.module:model", "--data", DATA], "no module no"),
        (["model", "--data", DATA], "package.module:name"),
        (["faithattn_audited:nothing", "--data", DATA], "MODEL must be a model"),
        ([MODEL, "--data", "none.npz"], "must be a file that exists"),
        (["./faithattn_audited.py:model", "--data", DATA], "without .py"),
        (["faithattn_audited.py:model", "--data", DATA], "Write faithattn_audited:model"),
        (["faithattn_audited:encode", "--data", DATA], "got TypeError: encode() missing"),
        (["faithattn_audited:broken", "--data", DATA], "(faithattn_audited.py, line 30)"),
        ([MODEL, "--data", "faithattn_audited:broken"], "--data must run without an error"),
        ([MODEL, "--data", "faithattn_audited:breaking"], "KeyError: 'weights' in"),
        ([MODEL, "--data", "faithattn_audited:nothing"], "batches must be an iterable"),
        ([MODEL, "--data", DATA, "--prepare", "faithattn_audited:broken"], "--prepare must run"),
        ([MODEL, "--data", DATA, "--prepare", "faithattn_audited:nothing"], "--prepare must be a"),
        ([MODEL, "--data", "junk.npz"], "junk.npz (ValueError"),
        ([MODEL, "--data", "junk.pt"], "junk.pt ("),
        ([MODEL, "--data", "words.jsonl"], "whole numbers in input_ids"),
        ([MODEL, "--data", "flat.jsonl"], "a list in input_ids"),
        ([MODEL, "--data", DATA, "--batch-size", "0"], "--batch-size must be at least 1"),
        ([MODEL, "--data", DATA, "--device", "graphics"], "--device must be one"),
        ([MODEL, "--data", DATA, "--fail-below", "loo", "1"], "must name a metric of the audit"),
        ([MODEL, "--data", DATA, "--fail-above", "loo_correlation", "nan"], "must have a number"),
        (
            [*VIEWED, "--fail-below", "loo_correlation", "1"],
            "loo_correlation@b, permutation_test@a",
        ),
        ([*VIEWED, "--fail-below", "loo_correlation@c", "1"], "got loo_correlation@c"),
        ([MODEL, "--data", DATA, "--metrics", *["permutation_test"] * 2], "got permutation_test "),
        ([MODEL, "--data", DATA, "--metrics", "permutation"], "--metrics must"),
        ([MODEL, "--data", DATA, "--metrics", "permutation_test:n=5"], "n_permutations"),
        ([MODEL, "--data", DATA, "--shard", "2/2"], "--shard must be a number"),
        ([MODEL, "--data", DATA, "--shard", "two"], "--shard must be I/N"),
        ([MODEL, "--data", DATA, "--removal", "x"], "--removal must be one of"),
        ([MODEL, "--data", DATA, "--threads", "0"], "--threads must be at least 1"),
        ([MODEL, "--data", DATA, "--out", "faithattn_audited.py/x"], "out must"),
    ],
)
def test_wrong_commands(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("junk.npz", "junk.pt"):
        Path(name).write_bytes(b"junk")
    Path("words.jsonl").write_text('{"input_ids": ["good"]}', encoding="utf-8")
    Path("flat.jsonl").write_text('{"input_ids": 5}', encoding="utf-8")
    assert said in fails(["audit", *arguments, "--quiet"], capsys)
    if {"--fail-below", "--fail-above", "--metrics"} & set(arguments):
        assert not Path("faithattn-results").exists()  # nothing has run


def test_an_audit_in_which_everything_failed_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["audit", "faithattn_audited:failing", "--data", DATA, "--on-error", "record"]
    said = fails([*arguments, "--out", "a", "--quiet"], capsys, status=1, silent=False)
    assert "MODEL must run on one batch at least" in said and "ArithmeticError: odd" in said
    assert len(Report.open("a").failures) == 4
    for limit in ("--fail-below", "--fail-above"):  # what is undefined meets none
        assert main(["report", "a", limit, "permutation_test", "0"]) == 3
    capsys.readouterr()


def test_folders_that_are_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "empty").mkdir()
    for name in ("empty", "nowhere"):
        assert "must be" in fails(["report", name], capsys)
    assert "must be" in fails(["merge", "empty", "--out", "x"], capsys)


def forked(arguments: list[str], name: str, **environment: str) -> int:
    """An audit in a process of its own, which says what it says in a file of that name."""
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(120)  # a test that hangs must not hang the others
    status = 70
    try:
        os.environ.update(environment)
        with Path(name).open("w", encoding="utf-8") as file:
            sys.stdout = sys.stderr = file
            try:
                status = main(["audit", MODEL, "--data", DATA, *arguments, "--quiet"])
            except SystemExit as end:
                status = int(end.code or 0)
    finally:
        os._exit(status)


def several(count: int, out: str, **environment: str) -> tuple[list[int], str]:
    """As torchrun starts them, but sooner: exit statuses, and what all of them said."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    names = [f"{out}-{rank}.txt" for rank in range(count)]
    pids = [
        forked(["--out", out], name, **meeting, RANK=str(rank), **environment)
        for rank, name in enumerate(names)
    ]
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return statuses, "".join(Path(name).read_text(encoding="utf-8") for name in names)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_that_die_leave_what_can_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes of which one is killed; then one that is ended; then the rest, in this one."""
    monkeypatch.setenv("BATCHES", "8")
    statuses, said = several(2, "torn", DIES="1")
    assert statuses == [2, -signal.SIGKILL]
    assert "is gone" in said and "run the same command again to go on" in said
    kept = len(list(Path("torn").rglob("*.npz")))
    assert 0 < kept < 8
    pid = forked(["--out", "torn"], "ended.txt", PAUSE=".1")
    while len(list(Path("torn").rglob("*.npz"))) <= kept:
        time.sleep(0.02)
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGTERM
    assert "run the same command again" in Path("ended.txt").read_text(encoding="utf-8")
    for out in ("torn", "whole"):
        says(["audit", MODEL, "--data", DATA, "--out", out, "--quiet"], capsys)
    statuses, said = several(2, "shared")
    assert statuses == [0, 0] and said.count("Written to") == 1
    reports = [Report.open(name) for name in ("whole", "torn", "shared")]
    for name in reports[0].columns:
        same = {np.asarray(report.column(name)).tobytes() for report in reports}
        assert len(same) == 1, name


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_reader_that_has_seen_enough_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError

    says(["audit", MODEL, "--data", DATA, "--out", "a", "--quiet"], capsys)
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            with Path("said.txt").open("w", encoding="utf-8") as sys.stdout:
                monkeypatch.setattr("builtins.print", broken)
                status = main(["report", "a"])
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert capsys.readouterr().err == ""
