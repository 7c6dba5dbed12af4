from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slow_models import slow_logits
from small_models import Inputs, Model, alone, make_text, questions, texts

from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.training import TrainingRecord
from faithattn.paper.training.checkpoints import load, save

WORDS = Vocabulary.build([["a", "b", "c", "d", "e", "f", "g", "é"]])
RECORD = TrainingRecord((0.5, 0.25), (0.6, 0.5), (0.5, 1.0), 1, 2.5, 3)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A sound checkpoint."""
    file = tmp_path / "model.npz"
    save(file, make_text(), WORDS, record=RECORD, metadata={"labels": ["bad", "good"]})
    return file


def rewritten(file: Path, change: dict[str, Any], drop: tuple[str, ...] = ()) -> Path:
    """The checkpoint with other arrays or header entries."""
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files if name not in drop}
    if "metadata" in arrays:
        header = json.loads(arrays["metadata"].tobytes())
        header.update({key: value for key, value in change.items() if key in header})
        arrays["metadata"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        change = {key: value for key, value in change.items() if key not in header}
    with file.open("wb") as handle:
        np.savez(handle, **{**arrays, **change})
    return file


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_models_come_back_the_same(
    tmp_path: Path, case: tuple[Model, Callable[..., Inputs]], dtype: torch.dtype
) -> None:
    model, inputs = case[0].to(dtype), case[1]([2, 5])
    save(tmp_path / "model.npz", model, WORDS)
    before = torch.random.get_rng_state()
    loaded = load(tmp_path / "model.npz")
    assert torch.random.get_rng_state().equal(before)
    assert type(loaded.model) is type(model)
    assert loaded.model.config == model.config
    assert loaded.model.output == model.output
    assert not loaded.model.training
    assert loaded.model.run(inputs).logits.equal(model.run(inputs).logits)
    for name, value in model.state_dict().items():
        assert loaded.model.state_dict()[name].equal(value)
    flags = [parameter.requires_grad for parameter in loaded.model.parameters()]
    assert flags == [True] * len(flags)
    loaded.model.train()(inputs).sum().backward()


# What version 1 wrote, for embeddings of 5 features and 4 hidden units, beside the encoders.
FIRST_CONFIG = {
    "vocabulary_size": 12,
    "encoder": "average",
    "attention": "additive",
    "embedding_size": 5,
    "hidden_size": 4,
}
FIRST_TEXT = {
    "embedding.weight": (12, 5),
    "encoder.projection.weight": (8, 5),
    "encoder.projection.bias": (8,),
    "attention.key.weight": (4, 8),
    "attention.key.bias": (4,),
    "attention.score.weight": (1, 4),
    "decoder.weight": (1, 8),
    "decoder.bias": (1,),
}
FIRST_QUESTION = {
    **FIRST_TEXT,
    "question_encoder.projection.weight": (8, 5),
    "question_encoder.projection.bias": (8,),
    "attention.query.weight": (4, 8),
    "passage_projection.weight": (4, 8),
    "question_projection.weight": (4, 8),
    "question_projection.bias": (4,),
    "decoder.weight": (4, 4),
    "decoder.bias": (4,),
}


@pytest.mark.parametrize("kind", ["text classifier", "question answerer"])
def test_files_of_the_first_version_still_load(tmp_path: Path, kind: str) -> None:
    """A file made by hand, its weights under the names and in the shapes of then."""
    is_text, file = kind == "text classifier", tmp_path / "model.npz"
    shapes = FIRST_TEXT if is_text else FIRST_QUESTION
    draw = np.random.default_rng(0)
    weights = {f"weights.{name}": draw.normal(size=shape) for name, shape in shapes.items()}
    header = {
        "format": "faithattn model",
        "version": 1,
        "kind": kind,
        "config": FIRST_CONFIG if is_text else {**FIRST_CONFIG, "n_classes": 4},
        "words": WORDS.to_list(),
        "record": None,
        "metadata": {},
    }
    metadata = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with file.open("wb") as handle:
        np.savez(handle, metadata=metadata, **weights)
    model = load(file).model
    own = model.state_dict()
    assert set(own) == set(shapes)
    for name in shapes:
        assert (own[name].numpy() == weights[f"weights.{name}"]).all()
    inputs = texts([3, 5]) if is_text else questions([3, 5])
    logits = model.run(inputs).logits
    for row in range(2):
        expected = slow_logits(model, alone(inputs, row))
        torch.testing.assert_close(logits[row], expected, atol=1e-12, rtol=0)
    assert model.output == ("sigmoid" if is_text else "softmax")
    save(file, model, WORDS)
    assert load(file).model.run(inputs).logits.equal(logits)


def test_files_say_their_version(saved: Path) -> None:
    with np.load(saved) as archive:
        assert json.loads(archive["metadata"].tobytes())["version"] == 2


def test_vocabulary_record_and_metadata_come_back(saved: Path) -> None:
    loaded = load(saved)
    assert loaded.vocabulary == WORDS
    assert loaded.record == RECORD
    assert loaded.metadata == {"labels": ["bad", "good"]}
    save(saved, make_text(), WORDS)
    loaded = load(saved)
    assert loaded.record is None
    assert loaded.metadata == {}


def test_failed_save_leaves_the_old_file_and_nothing_else(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def fail(file: Any, **_: Any) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        save(saved, make_text(), WORDS)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


class Malicious:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_malicious_pickles_are_not_executed(saved: Path) -> None:
    mark = saved.parent / "mark"
    pickle.loads(pickle.dumps(Malicious(mark)))
    assert mark.exists(), "the pickle of this test must be dangerous"
    mark.unlink()
    array = np.empty(1, dtype=object)
    array[0] = Malicious(mark)
    raw, whole, inside = (saved.parent / name for name in ("raw", "torch", "inside"))
    raw.write_bytes(pickle.dumps(Malicious(mark)))
    torch.save(Malicious(mark), whole)
    files = [raw, whole, inside]
    for name in ("metadata", "weights.decoder.bias", "another"):
        inside = inside.with_name(f"inside-{name}")
        inside.write_bytes(saved.read_bytes())
        with np.load(inside) as archive:
            arrays: dict[str, Any] = {key: archive[key] for key in archive.files}
        with inside.open("wb") as handle:
            np.savez(handle, **{**arrays, name: array})
        files.append(inside)
    for file in (file for file in files if file.exists()):
        with pytest.raises(ValueError, match="path must name a checkpoint that faithattn saved"):
            load(file)
        assert not mark.exists()


@pytest.mark.parametrize(
    "content", [b"", b"text,label\n", b"PK\x03\x04", b"\x93NUMPY", b"\x80\x04."]
)
def test_foreign_files_are_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.npz"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"path must name a checkpoint .*model\.npz"):
        load(file)


def test_foreign_archives_are_named(tmp_path: Path) -> None:
    file = tmp_path / "model.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata", "text")
    with pytest.raises(ValueError, match="path must name a checkpoint"):
        load(file)
    np.savez(file, x=np.zeros(3))
    with pytest.raises(ValueError, match="path must name a checkpoint"):
        load(file)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_truncated_files_are_named(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match="path must name a checkpoint"):
        load(saved)


def test_damaged_bytes_are_named(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(255 - value for value in content[middle : middle + 400])
    saved.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="path must name a checkpoint"):
        load(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"},
        {"kind": "transformer"},
        {"config": {"vocabulary_size": 12, "encoder": "gru"}},
        {"config": {"vocabulary_size": 12, "unknown": 1}},
        {"config": {"vocabulary_size": 12, "embedding_size": 10**9, "hidden_size": 10**6}},
        {"config": [1, 2]},
        {"words": ["a", "b"]},
        {"words": WORDS.to_list()[:-1]},
        {"record": {"epochs": 3}},
        {"weights.decoder.bias": np.zeros(2)},
        {"weights.decoder.bias": np.zeros(1, dtype=np.int64)},
        {"weights.unknown": np.zeros(2)},
        {"metadata": np.frombuffer(b"[1, 2]", np.uint8)},
        {"metadata": np.frombuffer(b"not json", np.uint8)},
        {"metadata": np.frombuffer(b"\xff\xfe\xfa", np.uint8)},
    ],
)
def test_damaged_content_is_named(saved: Path, change: dict[str, Any]) -> None:
    if "metadata" in change:
        file = rewritten(saved, {}, drop=("metadata",))
        rewritten(file, change)
    else:
        rewritten(saved, change)
    with pytest.raises(ValueError, match="path must name a checkpoint"):
        load(saved)


def test_missing_weights_are_named(saved: Path) -> None:
    rewritten(saved, {}, drop=("weights.decoder.bias",))
    with pytest.raises(ValueError, match="path must name a checkpoint"):
        load(saved)


def test_other_versions_are_named(saved: Path) -> None:
    rewritten(saved, {"version": 3})
    message = r"checkpoint of version 1 or 2; got version 3 in .*model\.npz"
    with pytest.raises(ValueError, match=message):
        load(saved)


def test_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(FileNotFoundError, match="path must name a file; got"):
            load(path)


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    file = tmp_path / "model.npz"
    with pytest.raises(ValueError, match="vocabulary must have the model's 12 words; got 5"):
        save(file, make_text(), Vocabulary.build([["a"]]))
    with pytest.raises(TypeError, match="metadata must be JSON"):
        save(file, make_text(), WORDS, metadata={"x": torch.zeros(1)})
    with pytest.raises(TypeError, match=r"one of TextClassifier, QuestionAnswerer, .*; got Linear"):
        save(file, torch.nn.Linear(2, 2), WORDS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="half, single or double precision; got"):
        save(file, make_text().bfloat16(), WORDS)
    assert list(tmp_path.iterdir()) == []
