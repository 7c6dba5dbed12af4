"""Style sheets and the script of the pages, as files beside this one."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from importlib.resources import files

STEPS = 10  # strengths of colour behind words
_RULE = re.compile(r"--([a-z]+):\s*(#[0-9a-f]{6})")


@cache
def read(name: str) -> str:
    """The text of a file of this folder.

    Args:
        name: Its name.
    """
    return files("faithattn.pages.style").joinpath(name).read_text(encoding="utf-8")


def colours() -> tuple[dict[str, str], dict[str, str]]:
    """The colours by name, on light paper and on dark.

    Examples:
        >>> light, dark = colours()
        >>> light["paper"], sorted(light) == sorted(dark)
        ('#fdfcf9', True)
    """
    light, dark = read("colours.css").split("@media", 1)
    return dict(_RULE.findall(light)), dict(_RULE.findall(dark))


def page_style() -> str:
    """All style of a page."""
    return read("colours.css") + read("chart.css") + read("page.css") + _heat_style()


def figure_style() -> str:
    """Style of a figure that stands alone: light, and without variables, which few editors know."""
    light, _ = colours()
    return re.sub(r"var\(--([a-z]+)\)", lambda found: light[found[1]], read("chart.css"))


def mixed(paper: str, colour: str, share: float) -> str:
    """A colour laid on paper, so strong that a share of 1 hides the paper.

    Args:
        paper: Colour as ``#rrggbb``.
        colour: Colour as ``#rrggbb``.
        share: From 0 to 1.

    Examples:
        >>> mixed("#000000", "#ff8000", 0.5)
        '#804000'
    """
    pairs = zip(_channels(paper), _channels(colour), strict=True)
    return "#" + "".join(f"{round(low + (high - low) * share):02x}" for low, high in pairs)


@lru_cache(maxsize=1)
def _heat_style() -> str:
    """Backgrounds of words, in ten steps, on light paper and on dark."""
    light, dark = (
        "\n".join(
            f".words .{name[0]}{step} {{ background: "
            f"{mixed(palette['paper'], palette[name], step / STEPS)}; }}"
            for name in ("weight", "score")
            for step in range(1, STEPS + 1)
        )
        for palette in colours()
    )
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
