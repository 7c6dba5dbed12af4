from __future__ import annotations

import re

import pytest

from faithattn.pages.style import STEPS, colours, figure_style, mixed, page_style

LIGHT, DARK = colours()


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_itself() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read(palette: dict[str, str]) -> None:
    for name in ("ink", "muted", "link", "good", "bad", "unsure"):
        for ground in ("paper", "sheet"):
            assert contrast(palette[name], palette[ground]) >= 4.5, (name, ground)
    assert contrast(palette["ink"], palette["paper"]) >= 7
    for name in ("weight", "score"):
        for step in range(STEPS + 1):
            ground = mixed(palette["paper"], palette[name], step / STEPS)
            assert contrast(palette["ink"], ground) >= 4.5, (name, step)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_drawings_can_be_seen(palette: dict[str, str]) -> None:
    for name in ("edge", "mean", "link"):
        assert contrast(palette[name], palette["paper"]) >= 3, name
    for ground in ("band", "bar", "paper"):
        assert contrast(palette["mean"], palette[ground]) >= 4.5, ground


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_keep_their_order_in_grey(palette: dict[str, str]) -> None:
    for name in ("weight", "score"):
        steps = [
            luminance(mixed(palette["paper"], palette[name], step / STEPS))
            for step in range(STEPS + 1)
        ]
        assert steps in (sorted(steps), sorted(steps, reverse=True))
        assert len(set(steps)) == len(steps)
        assert contrast(mixed(palette["paper"], palette[name], 1), palette["paper"]) >= 1.5


def test_every_colour_is_there_on_both_papers() -> None:
    used = set(re.findall(r"var\(--([a-z]+)\)", page_style()))
    assert used <= set(LIGHT) and set(LIGHT) == set(DARK)


def test_figures_alone_need_no_variables() -> None:
    assert "var(" not in figure_style() and "#" in figure_style()


def test_nothing_is_loaded_from_elsewhere() -> None:
    assert not re.search(r"url\(|@import|https?:", page_style())


def test_who_wants_no_motion_has_none() -> None:
    style = page_style()
    assert style.count("scroll-behavior: smooth") == 1 and "animation" not in style
    assert "@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }" in style
