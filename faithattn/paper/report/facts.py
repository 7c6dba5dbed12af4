"""What was run and on what, in sentences: before the tables and after them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from faithattn.pages.escaping import plain
from faithattn.paper.experiment import Experiment
from faithattn.paper.published import published_datasets
from faithattn.paper.report.names import ATTENTION_NAMES, ENCODER_NAMES, unit
from faithattn.statistics import null_spread

# Of the reasons why rows were left out, so many are told; results.json has them all.
_REASONS = 5
# More classes, such as the entities of news, are not told one by one; results.json has them all.
_CLASSES = 12


def heading(experiment: Experiment) -> str:
    """Returns what was run, in a line."""
    settings = experiment.settings
    return (
        f"{plain(experiment.dataset.name, 28)}: {ENCODER_NAMES[settings.encoder or 'bilstm']} "
        f"encoder, {ATTENTION_NAMES[settings.attention or 'additive']} attention, "
        f"seed {settings.seed}"
    )


def facts(experiment: Experiment) -> list[str]:
    """Returns what one must know before reading the table."""
    return [
        _accuracy(experiment),
        *_learned_little(experiment),
        *_tied(experiment),
        *_rows_left_out(experiment),
        _length(experiment),
    ]


def notes(experiment: Experiment, *, published: bool) -> list[str]:
    """Returns what one must know to read the table rightly.

    Args:
        experiment: What to describe.
        published: Whether published figures stand in the table.
    """
    several = experiment.dataset.kind == "labels"
    of_shuffles = (
        ""
        if several
        else "; for shuffles, those the model is unusually sure of with its own attention"
    )
    lines = [
        f"{_classes(experiment)}max: range of the largest attention weight. interval: "
        "95 % bootstrap interval of the mean. undef.: instances without a value (one word, or all "
        f"scores equal), not in the mean. p<=.05: share of instances, uncorrected{of_shuffles}."
    ]
    found = experiment.adversarial.summary().notes["instances without a feasible adversary"]
    lines.append(
        f"Instances for which no other attention kept the output: {found:.0f}; they count as 0."
    )
    if experiment.evidence is not None:
        shares = [float(part.nanmean()) for part in experiment.evidence]
        stories = experiment.dataset.kind == "questions"
        what = "The supporting sentences" if stories else "The words marked as evidence"
        lines.append(
            f"{what} are {_small(shares[3])} of the words and get {_small(shares[0])} of "
            f"the attention, {_small(shares[1])} of the gradients, {_small(shares[2])} of "
            f"leave-one-out{_of_known(experiment)}."
        )
    if published:
        lines.append(
            f"published: Jain & Wallace 2019{_published_task(experiment)}; ~ was read off a "
            "drawing. Published means depend on "
            "details of training (vectors, epoch, seed): compare the order of models and the "
            "spread, not the third digit."
        )
    return lines


def shows_classes(experiment: Experiment) -> bool:
    """Whether the tables have a row for each predicted class.

    Args:
        experiment: What to describe.
    """
    return 0 < len(experiment.summaries["gradient_correlation"].by_predicted) <= _CLASSES


def median_length(experiment: Experiment) -> float:
    """Returns the median number of words of the tested instances."""
    return float(experiment.gradient.mask.sum(1).double().quantile(0.5))


def number(value: float) -> str:
    """A number with three digits, a hyphen where there is none."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def percent(value: float) -> str:
    """A share, a hyphen where there is none."""
    return "-" if math.isnan(value) else f"{value:.0%}"


def _classes(experiment: Experiment) -> str:
    """What the rows of classes are, or why there are none."""
    if shows_classes(experiment):
        return "-> X: instances predicted as X. "
    number = len(experiment.summaries["gradient_correlation"].by_predicted)
    return f"Of the {number} classes predicted, results.json tells one by one. " if number else ""


def _small(share: float) -> str:
    """A share that may be of a few words among thousands."""
    return f"{share:.2%}" if 0 < share < 0.01 else f"{share:.0%}"


def _of_known(experiment: Experiment) -> str:
    """Of which instances evidence is known, where not of all."""
    known = sum(bool(example.evidence) for example in experiment.examples)
    total = len(experiment.examples)
    return "" if known == total else f" (the {known:,} of {total:,} that have some)"


def _length(experiment: Experiment) -> str:
    """How long the tested texts are, and what that makes of a rank correlation."""
    length = median_length(experiment)
    explained = "premises" if experiment.dataset.kind == "pairs" else "texts"
    words = f"Half the tested {explained} have {length:g} word{'s' * (length > 1)} or fewer"
    if length < 2:
        return f"{words}, too few for a tau."
    spread = number(null_spread(length))
    return f"{words}; at that length, the tau of unrelated scores spreads by {spread} around 0."


def _tied(experiment: Experiment) -> Iterator[str]:
    """What training asked of the attention beside the task."""
    weight = experiment.settings.tie_attention
    if weight:
        yield (
            f"Training tied the attention to that of log-odds: {weight:g} times its divergence "
            "(KL, nats) was added to the loss."
        )


def _accuracy(experiment: Experiment) -> str:
    """How often the model is right, and what was tested."""
    test, tested = experiment.test, len(experiment.instances)
    which = "all of them" if tested == test.n else f"{tested:,} of them{_selection(experiment)}"
    right = "Share of labels right" if experiment.dataset.kind == "labels" else "Accuracy"
    f1 = "" if math.isnan(test.macro_f1) else f" (macro F1 {test.macro_f1:.3f})"
    return (
        f"{right} {test.accuracy:.3f}{f1} on {test.n:,} test examples; the four tests ran on "
        f"{which}."
    )


def _learned_little(experiment: Experiment) -> Iterator[str]:
    """What answers without a look at the text would give, where the model hardly does better."""
    test, dataset = experiment.test, experiment.dataset
    little = "this model has learned little, and so tells little."
    if dataset.kind == "labels":
        held = Counter(number for example in dataset.test for number in example.labels or ())
        shares = [held[number] / test.n for number in range(len(dataset.labels))]
        yield f"Giving no text any label would give {1 - sum(shares) / len(shares):.3f}."
        # Few labels hold, so that none is right most often: F1 is what tells a model apart.
        every = sum(2 * share / (1 + share) for share in shares) / len(shares)
        if test.macro_f1 <= every + 0.05:
            yield f"Giving every text all labels would give a macro F1 of {every:.3f}: {little}"
        return
    majority, count = Counter(example.label for example in dataset.test).most_common(1)[0]
    if test.accuracy <= count / test.n + 0.05:
        yield (
            f"Always answering '{plain(dataset.labels[majority], 24)}' would give "
            f"{count / test.n:.3f}: {little}"
        )


def _rows_left_out(experiment: Experiment) -> Iterator[str]:
    """What of the files was not used."""
    left_out, cut = experiment.dataset.left_out, experiment.dataset.cut
    total = sum(left_out.values())
    if total:
        most = sorted(left_out.items(), key=lambda each: -each[1])
        told = [f"{plain(reason, 40)} {count:,}" for reason, count in most[:_REASONS]]
        rest = sum(count for _, count in most[_REASONS:])
        told += [f"other reasons {rest:,}"] if rest else []
        were = "row was" if total == 1 else "rows were"
        yield f"{total:,} {were} left out: {', '.join(told)}."
    if cut:
        were = f"{unit(experiment)} was" if cut == 1 else f"{unit(experiment)}s were"
        yield f"{cut:,} {were} longer than the most words allowed, and cut at the end."


def _selection(experiment: Experiment) -> str:
    """Says how the tested instances were chosen."""
    settings = experiment.settings
    least = settings.minimum_words
    words = f", those of {least} words or more" if least > 1 else ""
    return words + (", drawn at random" if settings.instances is not None else "")


def _published_task(experiment: Experiment) -> str:
    """The data set of the published figures with its classes, where these are known."""
    for each in published_datasets():
        if each.name == experiment.published_name and each.classes:
            return f", {each.name} ({', '.join(each.classes)})"
    return ""
