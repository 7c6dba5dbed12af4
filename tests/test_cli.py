from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import fails, small_models

from faithattn import __version__
from faithattn.cli import main
from faithattn.paper import experiment

ROWS = [
    f"{word} film was {filler},{label},{split}"
    for split, count in (("train", 8), ("dev", 3), ("test", 4))
    for filler in ("long", "short", "quiet", "loud", "odd", "old", "new", "red")[:count]
    for word, label in (("great", "1"), ("awful", "0"))
]


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of texts in a folder to work in, and models small enough to wait for."""
    monkeypatch.chdir(tmp_path)
    small_models(monkeypatch)
    path = tmp_path / "films.csv"
    path.write_text("\n".join(["text,label,split", *ROWS]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_reproduce(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "films.csv", "--epochs", "2", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert max(map(len, captured.out.splitlines()[:-3])) <= 100
    for text in ("films: BiLSTM encoder", "Accuracy", "Attention shuffled 100 times", "Time:"):
        assert text in captured.out
    folder = Path("faithattn-results", "films-bilstm-additive-seed0")
    assert str(folder) in captured.out
    first = (folder / "instances.csv").read_bytes()
    assert len(first.splitlines()) == 1 + 8

    assert main(["reproduce", "films.csv", "--epochs", "2", "--out", "again"]) == 0
    assert "leave-one-out" in capsys.readouterr().err
    assert Path("again", "instances.csv").read_bytes() == first

    model = str(folder / "model.npz")
    assert main(["reproduce", "films.csv", "--checkpoint", model, "--out", "b", "--quiet"]) == 0
    assert Path("b", "instances.csv").read_bytes() == first


def test_options_arrive(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[experiment.Settings] = []
    real = experiment.prepare

    def spy(data: str, settings: experiment.Settings, **rest: str | None) -> object:
        seen.append(settings)
        return real(data, settings, **rest)  # type: ignore[arg-type]

    options = (
        "--encoder average --attention scaled_dot --seed 3 --epsilon .2 --permutations 7 "
        "--adversaries 2 --instances 3 --epochs 1 --minimum-count 2 --text text --label label "
        "--split split --threads 1 --quiet"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "prepare", spy)
        assert main(["reproduce", "films.csv", *options.split()]) == 0
    (given,) = seen
    for name, value in {
        "encoder": "average", "attention": "scaled_dot", "seed": 3, "epsilon": 0.2,
        "permutations": 7, "adversaries": 2, "instances": 3, "epochs": 1, "minimum_count": 2,
        "text": "text", "label": "label", "split": "split",
    }.items():  # fmt: skip
        assert getattr(given, name) == value
    assert Path("faithattn-results", "films-average-scaled_dot-seed3", "summary.md").is_file()
    tied = (*options.split(), "--tie-attention", "0.5")
    assert main(["reproduce", "films.csv", *tied]) == 0
    assert Path("faithattn-results", "films-average-scaled_dot-tied0.5-seed3").is_dir()
    capsys.readouterr()


def test_bad_input(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ": DATA must name an existing file; got no.csv" in fails(["reproduce", "no.csv"], capsys)
    assert "got films.csv in the folder ." in fails(["reproduce", "."], capsys)
    assert "babi-9" in fails(["reproduce", "babi-9"], capsys)
    Path("bad.csv").write_text("text,label\na b,0\nc,d,1\n")
    assert "line 3 of bad.csv" in fails(["reproduce", "bad.csv"], capsys)
    for options, said in (
        (["--encoder", "gru"], "'gru'"),
        (["--seed", "x"], "'x'"),
        (["--seed", "-1"], ": --seed must be"),
        (["--epsilon", "0"], ": --epsilon must be"),
        (["--permutations", "0"], ": --permutations must be"),
        (["--permutations", "9" * 20], ": --permutations must be at most 1000000"),
        (["--adversaries", "100000000000"], ": --adversaries must be at most 1000000"),
        (["--threads", "0"], "--threads must be at least 1; got 0. Pass 1 or more."),
        (["--threads", "1000000"], f"--threads must be at most {os.cpu_count()}, "),
        (["--minimum-count", "999"], "Lower --minimum-count or"),
        (["--minimum-words", "999"], ": --minimum-words must leave"),
        (["--split", "text"], ": --text, --label and --split must name different columns"),
        (["--text", "nope"], "--text must name a column of films.csv"),
        (["--vectors", "no.txt"], ": --vectors must name an existing file; got no.txt"),
        (["--vectors", "."], ": --vectors must name a file; got the folder ."),
        (["--checkpoint", "no.npz"], ": --checkpoint must name a file; got no.npz"),
        (["--checkpoint", "films.csv"], ": --checkpoint must name a checkpoint"),
        (["--nonsense"], "--nonsense"),
    ):
        message = fails(["reproduce", "films.csv", *options], capsys)
        assert message.startswith("faithattn reproduce: ") or "--nonsense" in message
        assert said in message
    assert not Path("faithattn-results").exists()


def test_errors_of_rows_name_the_file(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rows, said in (
        ("a b,,train", "label must be given in every row; got '' in 'label' at line 2 of bad.csv"),
        (",1,train", "text must hold a word in every row; got '' in 'text' at line 2 of bad.csv"),
        (
            "a b,1,later",
            "at line 2 of bad.csv. Correct the row, or name the right column with --sp",
        ),
        ("a,0,train\nb,1,test", "unknown '1' at line 3 of bad.csv"),
        ("a,0,train\nb,0,test", "only '0' in 'label' of bad.csv"),
    ):
        Path("bad.csv").write_text(f"text,label,split\n{rows}\n")
        assert said in fails(["reproduce", "bad.csv"], capsys)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate"),
        RuntimeError("Storage size calculation overflowed"),
        MemoryError(),
    ],
)
def test_too_little_memory(
    texts: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    for step in ("prepare", "run"):
        with monkeypatch.context() as patch:
            patch.setattr(experiment, step, fail)
            message = fails(["reproduce", "films.csv", "--quiet"], capsys, status=1)
        assert "memory of this machine does not suffice. Lower --batch-size" in message


def test_other_runtime_errors_are_not_hidden(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(experiment, "run", fail)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        main(["reproduce", "films.csv", "--quiet"])


def test_unwritable_folder_is_found_before_training(
    texts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "run", lambda *_, **__: pytest.fail("it trained"))
    message = fails(["reproduce", "films.csv", "--out", "films.csv"], capsys)
    assert "--out must be a folder that can be written; got films.csv" in message


def test_failures_on_the_way(
    texts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FloatingPointError("loss must be finite; got nan.")

    monkeypatch.setattr(experiment, "run", fail)
    assert "loss must be finite" in fails(["reproduce", "films.csv"], capsys, status=1)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "run", interrupt)
    assert main(["reproduce", "films.csv"]) == 130
    assert capsys.readouterr().err == "\nfaithattn reproduce: interrupted.\n"


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["--version"], f"faithattn {__version__}"),
        (["--help"], "examples:"),
        (["reproduce", "--help"], "faithattn reproduce babi-1"),
    ):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 0
        assert said in capsys.readouterr().out
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().err


def test_help_does_not_load_pytorch() -> None:
    code = (
        "import sys\nfrom faithattn.cli import main\n"
        "try: main(['reproduce', '--help'])\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == 0


def test_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "faithattn", "reproduce", "no-such-task"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("faithattn reproduce: DATA must be")
    assert "Traceback" not in done.stderr
