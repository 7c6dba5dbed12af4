"""Errors of the library in the words of the command line: ``--minimum-count``, not an argument."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# Errors about rows have these as their subject too, and then mean what the rows hold.
_COLUMNS = ("text", "label", "labels", "split")
_OF_OPTIONS = ("name a column", "name different columns", "be left out")
_PLACES = {"model": "MODEL"}  # arguments without a name


def in_options(message: str, names: Iterable[str], typed: Mapping[str, str] | None = None) -> str:
    """Names options as they are typed.

    Args:
        message: Text of an error, ``<argument> must <rule>; got <observed>. <remedy>``.
        names: Arguments that the command line sets, ``model`` among them.
        typed: Those of them that are typed otherwise than by their name.

    Returns:
        The text with options for the arguments that are its subject, that are
        followed by ``=``, or that no one could take for a plain word.

    Examples:
        >>> in_options("vectors must name a file; got the folder a.", ["vectors"])
        '--vectors must name a file; got the folder a.'
        >>> in_options("text must hold a word in every row. Pass text=.", ["text"])
        'text must hold a word in every row. Pass --text.'
    """
    places = {**_PLACES, **(typed or {})}
    known = {name: places.get(name, f"--{name.replace('_', '-')}") for name in names}
    subject, must, rest = message.partition(" must ")
    if must:
        kept = () if rest.startswith(_OF_OPTIONS) else _COLUMNS
        subject = re.sub(
            r"\b\w+\b(?!\.\w)", lambda m: m[0] if m[0] in kept else known.get(m[0], m[0]), subject
        )
    whole = subject + must + rest
    for name, option in known.items():
        whole = re.sub(rf"\b{name}=(?!\w)", option, whole)
        if "_" in name:
            whole = re.sub(rf"(?<!['\"\w/.-]){name}(?!['\"\w/=-]|\.\w)", option, whole)
    return whole
