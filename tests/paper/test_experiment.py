from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from experiments import LEARNING, SMALL, stories, text_rows, write_texts
from scipy import stats

from faithattn import gradient_correlation, loo_correlation, permutation_test
from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.experiment import Experiment, Settings, prepare, run
from faithattn.paper.experiment.comparable import published_name_of
from faithattn.paper.log_odds import fit_log_odds
from faithattn.paper.reproduction import reproduce
from faithattn.paper.training.checkpoints import load, save


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    path = write_texts(tmp_path_factory.mktemp("data") / "my-sst.csv")
    return reproduce(path, LEARNING)


@pytest.fixture(scope="module")
def answers() -> Experiment:
    return reproduce(stories(), SMALL)


@pytest.mark.parametrize("name", ["texts", "answers"])
def test_every_instance_gets_what_it_gets_alone(name: str, request: pytest.FixtureRequest) -> None:
    """Batches are sorted by length and shuffled; results are in the order of the test split."""
    experiment: Experiment = request.getfixturevalue(name)
    prepared, settings = experiment.prepared, experiment.settings
    for place, example in enumerate(experiment.dataset.test):
        inputs, _ = prepared.collate([example])
        alone = gradient_correlation(prepared.model, inputs)
        torch.testing.assert_close(
            experiment.gradient.statistic[place : place + 1], alone.statistic, equal_nan=True
        )
        shuffled = permutation_test(
            prepared.model, inputs, n_permutations=settings.permutations, seed=settings.seed,
            instances=torch.tensor([place]),
        )  # fmt: skip
        torch.testing.assert_close(
            experiment.permutation.tvd[place : place + 1], shuffled.tvd, equal_nan=True
        )
        length = len(example.tokens)
        assert experiment.gradient.mask[place].sum() == length
        torch.testing.assert_close(
            experiment.loo.importance[place, 1 : length + 1],
            loo_correlation(prepared.model, inputs).importance[0, 1 : length + 1],
            equal_nan=True,
            atol=1e-6,
            rtol=0,
        )


def test_undefined_instances_are_counted(texts: Experiment) -> None:
    """The text of one word."""
    assert texts.examples[-1].tokens == ("great",)
    for measure, summary in texts.summaries.items():
        expected = 0 if measure in ("adversarial_attention", "farthest_attention") else 1
        assert (summary.overall.n, summary.overall.undefined) == (len(texts.examples), expected)


def test_nothing_published_is_farther_than_the_farthest(texts: Experiment) -> None:
    assert texts.farthest.method == "exact" and texts.adversarial.method == "published"
    assert texts.farthest.certified.all()
    assert texts.farthest.attention.shape[1] == texts.farthest.feasible.shape[1] == 1
    assert texts.adversarial.attention.shape[1] == 2
    found = texts.farthest.feasible[:, 0]
    assert found.sum() > 5
    assert torch.equal(texts.farthest.jsd[found, 0], texts.farthest.max_jsd[found])
    assert (texts.farthest.max_jsd >= texts.adversarial.max_jsd - 1e-6).all()


def test_third_pair_is_the_correlation_of_the_importances(texts: Experiment) -> None:
    pair = texts.gradient_loo
    for row in range(len(texts.examples)):
        mask = pair.mask[row].numpy()
        gradient = texts.gradient.importance[row].numpy()[mask].astype(np.float64)
        loo = texts.loo.importance[row].numpy()[mask].astype(np.float64)
        # Only rows without near-ties, where SciPy, which merges none, must say the same.
        near = np.diff(np.sort(gradient)).min(initial=1) < 1e-6 * gradient.max()
        if len(loo) > 1 and not near and np.diff(np.sort(loo)).min() > 1e-6:
            expected = stats.kendalltau(gradient, loo)
            assert pair.statistic[row] == pytest.approx(expected.statistic, abs=1e-6)
            assert pair.pvalue[row] == pytest.approx(expected.pvalue, abs=1e-6)
    assert pair.measure == "gradient_loo"
    assert pair.removal == "delete"


def test_defaults_depend_on_the_task(texts: Experiment, answers: Experiment) -> None:
    assert (texts.settings.epsilon, answers.settings.epsilon) == (0.01, 0.05)
    assert (texts.settings.encoder, texts.settings.attention) == ("bilstm", "additive")
    defaults = Settings()
    assert (defaults.permutations, defaults.adversaries, defaults.n_steps) == (100, 5, 500)


def test_a_planted_word_is_learned(texts: Experiment) -> None:
    settings = replace(LEARNING, encoder="average", seed=1)
    rows = text_rows(600)
    examples = [Example(tuple(text.split()), int(label == "good")) for text, label, _ in rows]
    data = Dataset("planted", *(tuple(examples[i::3]) for i in range(3)), ("bad", "good"))
    experiment = reproduce(data, settings)
    assert experiment.test.accuracy == 1
    assert experiment.published_name is None
    assert texts.published_name == "sst"


def named(name: str, dataset: Dataset, n_classes: int) -> Dataset:
    return replace(dataset, name=name, labels=tuple(map(str, range(n_classes))))


@pytest.mark.parametrize(
    ("name", "published"),
    [("sst", "sst"), ("SST_dataset", "sst"), ("my-sst2", "sst"), ("lesstalk", None),
     ("imdb", "imdb"), ("tweet", "tweet"), ("agnews", None), ("reviews", None),
     ("babi-1", None), ("snli", None), ("phenotyping", None)],
)  # fmt: skip
def test_published_name(texts: Experiment, name: str, published: str | None) -> None:
    prepared = replace(texts.prepared, dataset=replace(texts.dataset, name=name))
    assert replace(texts, prepared=prepared).published_name == published


def test_published_figures_are_of_as_many_classes(texts: Experiment, answers: Experiment) -> None:
    """Four topics of AG News are not the two that the study told apart."""
    assert published_name_of(named("agnews", texts.dataset, 4)) is None
    assert published_name_of(named("cnn", answers.dataset, 40)) == "cnn"
    pair = Example(("a",), 0, question=("b",))
    pairs = Dataset("snli", (pair,), (pair,), (pair,), ("x", "y", "z"))
    assert published_name_of(pairs) == "snli"
    assert published_name_of(replace(pairs, labels=("x", "y"))) is None
    several = Example(("a",), -1, labels=(0,))
    labels = Dataset("phenotyping", (several,), (several,), (several,), tuple("abcde"))
    assert published_name_of(labels) == "phenotyping"


def test_published_figures_are_those_of_the_same_model(texts: Experiment) -> None:
    figure = texts.published("gradient_correlation")
    assert figure is not None
    assert figure.mean == 0.3512
    assert texts.published("gradient_correlation", "7") is None


def test_evidence(texts: Experiment, answers: Experiment) -> None:
    assert texts.evidence is None
    assert answers.evidence is not None
    for row, example in enumerate(answers.examples):
        weights = answers.gradient.explanation[row, 1 : 1 + len(example.tokens)]
        inside = weights[list(example.evidence)].sum()
        assert answers.evidence.attention[row] == pytest.approx(float(inside), abs=1e-6)
        share = len(example.evidence) / len(example.tokens)
        assert answers.evidence.positions[row] == pytest.approx(share)


def test_some_instances_give_what_they_give_among_all(answers: Experiment) -> None:
    prepared = replace(answers.prepared, trained=True, instances=(1, 4, 7))
    some = run(prepared)
    rows = list(some.instances)
    torch.testing.assert_close(some.gradient.statistic, answers.gradient.statistic[rows])
    torch.testing.assert_close(some.permutation.tvd, answers.permutation.tvd[rows])
    torch.testing.assert_close(
        some.adversarial.max_jsd, answers.adversarial.max_jsd[rows], atol=1e-4, rtol=0
    )
    assert some.test == answers.test


def test_number_of_instances() -> None:
    chosen = prepare(stories(), replace(SMALL, instances=4)).instances
    assert len(set(chosen)) == 4
    assert list(chosen) == sorted(chosen)
    assert chosen != prepare(stories(), replace(SMALL, instances=4, seed=3)).instances
    assert prepare(stories(), replace(SMALL, instances=99)).instances == tuple(range(9))


def test_same_seed_same_numbers_whatever_the_global_state(answers: Experiment) -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    again = reproduce(stories(), SMALL)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name in ("gradient", "loo", "permutation", "adversarial", "farthest"):
        assert getattr(again, name).records() == getattr(answers, name).records()
    other = reproduce(stories(), replace(SMALL, seed=1))
    assert other.gradient.records() != answers.gradient.records()


def test_checkpoint_gives_the_same_results(tmp_path: Path) -> None:
    path = write_texts(tmp_path / "texts.csv")
    settings = replace(SMALL, encoder="cnn", attention="scaled_dot")
    first = run(prepare(path, settings), checkpoint=tmp_path / "model.npz")
    # The sizes and names come from the file.
    prepared = prepare(path, replace(SMALL, hidden_size=9), checkpoint=tmp_path / "model.npz")
    second = run(prepared)
    assert second.record == first.record
    assert second.settings == first.settings
    for name in ("gradient", "loo", "permutation", "adversarial", "farthest"):
        assert getattr(second, name).records() == getattr(first, name).records()
    assert "training" in first.seconds
    assert "training" not in second.seconds


def test_checkpoint_keeps_its_split(tmp_path: Path) -> None:
    """With another seed, a random split would test on what the model was trained on."""
    path = tmp_path / "texts.csv"
    lines = [f"{text},{label}" for text, label, _ in text_rows()]
    path.write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    first = prepare(path, SMALL)
    run(first, checkpoint=tmp_path / "model.npz")
    other = prepare(path, replace(SMALL, seed=4), checkpoint=tmp_path / "model.npz")
    assert other.dataset == first.dataset != prepare(path, replace(SMALL, seed=4)).dataset
    assert (other.data_seed, other.settings.seed) == (0, 4)


def test_checkpoint_of_another_task(tmp_path: Path) -> None:
    file = tmp_path / "model.npz"
    run(prepare(stories(), replace(SMALL, instances=1)), checkpoint=file)
    with pytest.raises(ValueError, match=r"checkpoint must hold a model that classifies texts"):
        prepare(write_texts(tmp_path / "texts.csv"), SMALL, checkpoint=file)
    with pytest.raises(ValueError, match=r"encoder must be what the checkpoint holds, bilstm"):
        prepare(stories(), replace(SMALL, encoder="cnn"), checkpoint=file)
    with pytest.raises(ValueError, match=r"vectors must be left out with a checkpoint"):
        prepare(stories(), replace(SMALL, vectors="v.txt"), checkpoint=file)
    other = replace(stories(), labels=("a", "b", "c", "d", "e", "f"))
    with pytest.raises(ValueError, match=r"checkpoint must have the classes of babi-1"):
        prepare(other, SMALL, checkpoint=file)
    # Saved by somebody else's training, which does not say of which classes.
    loaded = load(file)
    save(file, loaded.model, loaded.vocabulary, record=None, metadata={})
    with pytest.raises(ValueError, match=r"checkpoint must have the classes of babi-1"):
        prepare(replace(other, labels=other.labels[:5]), SMALL, checkpoint=file)


def test_pretrained_vectors(tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("great 1 2 3\nawful 3 2 1\n", encoding="utf-8")
    path = write_texts(tmp_path / "texts.csv")
    prepared = prepare(path, replace(SMALL, vectors=vectors))
    assert prepared.settings.embedding_size == 3
    row = prepared.vocabulary.encode(["great"])[1]
    assert prepared.model.embedding.weight[row].tolist() == [1, 2, 3]
    assert prepared.coverage == pytest.approx(2 / 10)


def test_log_odds_are_of_the_training_split(tmp_path: Path) -> None:
    prepared = prepare(write_texts(tmp_path / "texts.csv"), SMALL)
    expected = fit_log_odds(prepared.dataset.train, prepared.vocabulary, 2)
    assert prepared.log_odds is not None
    torch.testing.assert_close(prepared.log_odds.weights, expected.weights, atol=0, rtol=0)


def test_vocabulary_is_of_the_training_split() -> None:
    data = stories()
    odd = replace(data.test[0], tokens=("xyzzy",), evidence=(0,))
    prepared = prepare(replace(data, test=(odd,)), SMALL)
    assert "xyzzy" not in prepared.vocabulary
    assert "where" in prepared.vocabulary
    experiment = run(prepared)
    assert experiment.summaries["gradient_correlation"].overall.undefined == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 2**63}, "seed must be below"),
        ({"epsilon": 0.0}, "epsilon must be above 0"),
        ({"epsilon": float("nan")}, "epsilon must be above 0"),
        ({"permutations": 0}, "permutations must be at least 1"),
        ({"adversaries": 0}, "adversaries must be at least 1"),
        ({"instances": 0}, "instances must be at least 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"minimum_count": 0}, "minimum_count must be at least 1"),
        ({"permutations": 10**20}, "permutations must be at most 1000000; got 1"),
        ({"adversaries": 10**11}, "adversaries must be at most 1000000; got 1"),
        ({"encoder": "gru"}, "encoder must be"),
        ({"attention": "dot"}, "attention must be"),
        ({"minimum_count": 999}, "texts must hold a word that occurs 999 times"),
    ],
)
def test_bad_settings_stop_before_training(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(stories(), replace(SMALL, **change))  # type: ignore[arg-type]


def test_errors_of_files_name_the_argument(tmp_path: Path) -> None:
    for argument, options in (
        ("data", {"data": tmp_path}),
        ("vectors", {"settings": replace(SMALL, vectors=tmp_path)}),
        ("checkpoint", {"checkpoint": tmp_path}),
    ):
        with pytest.raises((ValueError, OSError), match=rf"^{argument} must name a file"):
            prepare(**({"data": stories(), "settings": SMALL} | options))  # type: ignore[arg-type]


def test_several_classes_have_a_logit_each(tmp_path: Path) -> None:
    rows = [(f"{word} it was", number) for number, word in enumerate(("bad", "fair", "good"))]
    lines = [f"{text},{number}" for _ in range(12) for text, number in rows]
    three = tmp_path / "three.csv"
    three.write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    experiment = reproduce(three, replace(LEARNING, encoder="average"))
    assert experiment.test.accuracy == 1
    assert experiment.prepared.model.output == "softmax"
    assert set(experiment.gradient.predicted.tolist()) == {0, 1, 2}
    two = prepare(three, replace(SMALL, classes=("2", "0")))
    assert two.dataset.labels == ("2", "0")
    assert two.model.decoder.out_features == 1
    assert sum(two.dataset.left_out.values()) == 12


def test_one_class_is_none() -> None:
    with pytest.raises(ValueError, match=r"label must hold two classes or more; got 1 in babi-1"):
        prepare(replace(stories(), labels=("kitchen",)), SMALL)


def test_bad_data(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data must be babi-1, babi-2, babi-3, generated, or a"):
        prepare("babi-4", SMALL)
    with pytest.raises(FileNotFoundError, match=r"data must name an existing file"):
        prepare(tmp_path / "no.csv", SMALL)
    with pytest.raises(ValueError, match=r"task must be one of texts, .*; got poems"):
        prepare("generated", replace(SMALL, task="poems"))


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("babi-1", {"task": "pairs"}, "task must be left out for babi-1; got 'pairs'"),
        ("babi-1", {"label": "x"}, "label must be left out for babi-1; got 'x'"),
        ("generated", {"text": "x"}, "text must be left out for generated data"),
        ("a.jsonl", {"task": "snli", "label": "x"}, "label must be left out for task snli"),
        ("a.jsonl", {"task": "labels", "classes": ("x",)}, "classes must be left out for task lab"),
    ],
)
def test_options_that_would_be_ignored(
    data: str, options: dict[str, object], message: str, tmp_path: Path
) -> None:
    file = tmp_path / data
    if file.suffix:
        file.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        prepare(file if file.suffix else data, replace(SMALL, **options))  # type: ignore[arg-type]


def test_data_sets_take_no_options_of_files() -> None:
    with pytest.raises(ValueError, match=r"maximum_words must be left out for a data set; got 5"):
        prepare(stories(), replace(SMALL, maximum_words=5))


def test_log_odds_attention_is_for_single_texts() -> None:
    for options in ({"attention": "log_odds"}, {"tie_attention": 0.5}):
        with pytest.raises(ValueError, match=r"must be left out for questions; got"):
            prepare(stories(), replace(SMALL, **options))  # type: ignore[arg-type]
