"""The parts of a module by path, which every run needs and few runs change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Parts:
    """A module and everything inside it, each once, in the order of ``named_modules()``.

    Attributes:
        by_path: Modules by path; the module itself is ``""``.
        paths: The paths alone.
        names: Paths by the modules' ids.
    """

    by_path: Mapping[str, nn.Module]
    paths: tuple[str, ...]
    names: Mapping[int, str]


def parts_of(module: nn.Module) -> Parts:
    """Looks the parts up."""
    return Tree(module).parts()


class Tree:
    """Looks the parts of a module up again only where some were changed."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._found: tuple[Parts, list[tuple[nn.Module, dict[str, nn.Module | None]]]] | None = None

    def parts(self) -> Parts:
        """The parts as they are now."""
        if self._found is not None:
            parts, children = self._found
            if all(part._modules == known for part, known in children):
                return parts
        by_path = dict(self._module.named_modules())
        names = {id(part): name for name, part in by_path.items()}
        parts = Parts(by_path, tuple(by_path), names)
        self._found = parts, [(part, dict(part._modules)) for part in by_path.values()]
        return parts
