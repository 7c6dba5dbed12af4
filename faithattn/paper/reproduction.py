"""reproduce(): the published experiment from a task to a folder of results, in one call."""

from __future__ import annotations

from os import PathLike

from faithattn.paper.data.examples import Dataset
from faithattn.paper.experiment import Experiment, Settings, prepare, run
from faithattn.paper.experiment.study import CHECKPOINT
from faithattn.paper.report import prepare_folder, write_report


def reproduce(
    data: str | PathLike[str] | Dataset,
    settings: Settings | None = None,
    *,
    out: str | PathLike[str] | None = None,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool = False,
) -> Experiment:
    """Trains a published model on a task and runs the four published tests.

    Args:
        data: ``babi-1``, ``babi-2``, ``babi-3``, ``generated``, a file or
            folder of the kind that ``settings.task`` names, or a data set.
        settings: What to do; None for the published settings.
        out: Folder for results, tables and figures, made if need be; None to
            write nothing.
        checkpoint: A trained model to load instead of training.
        progress: Show progress bars on standard error.

    Returns:
        Results per instance, in the order of the test split.

    Raises:
        FileNotFoundError: If a file does not exist.
        OSError: If the folder cannot be written.
        ValueError: If a file cannot be read or a setting is out of range.
        FloatingPointError: If training diverges.

    References:
        Jain and Wallace (2019), "Attention is not Explanation".

    Examples:
        >>> from faithattn.paper.data.babi import generate_babi
        >>> from faithattn.paper.experiment import Settings
        >>> data = generate_babi(1, n_train=20, n_dev=5, n_test=5)
        >>> settings = Settings(
        ...     encoder="average", embedding_size=8, hidden_size=4, epochs=1, n_steps=5
        ... )
        >>> experiment = reproduce(data, settings)
        >>> experiment.permutation.median_tvd.shape, experiment.settings.epsilon
        (torch.Size([5]), 0.05)
        >>> sorted(experiment.summaries)  # doctest: +NORMALIZE_WHITESPACE
        ['adversarial_attention', 'farthest_attention', 'gradient_correlation', 'gradient_loo',
         'loo_correlation', 'permutation_test']
    """
    prepared = prepare(data, settings, checkpoint=checkpoint)
    if out is None:
        return run(prepared, progress=progress)
    folder = prepare_folder(out)
    experiment = run(prepared, checkpoint=folder / CHECKPOINT, progress=progress)
    write_report(experiment, folder)
    return experiment
