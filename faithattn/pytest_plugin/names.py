"""File names of tests."""

from __future__ import annotations

import hashlib
import re

_LONGEST = 100


def file_name(test: str, *, marked: bool = False) -> str:
    """A name that every file system takes; one that had to change ends in a digest.

    Args:
        test: Name of a test.
        marked: Whether to append the digest in any case.

    Returns:
        Letters, digits, ``.``, ``_`` and ``-``, at most 109 of them.

    Examples:
        >>> file_name("TestModel.test_faithful"), file_name("test_model[a/b]")
        ('TestModel.test_faithful', 'test_model-a-b-941f9ffc')
    """
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", test).strip("-.")[:_LONGEST]
    if safe == test and not marked:
        return safe
    return f"{safe}-{hashlib.sha256(test.encode()).hexdigest()[:8]}"
