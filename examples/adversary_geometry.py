"""Draws the attention of three words as a triangle, and the adversaries within epsilon in it.

    python examples/adversary_geometry.py FILE.png

Every distribution over three positions is a point of the triangle. Those that
keep the output within epsilon lie between two parallel lines; the picture shows
where the published search ends among them, and where the optimum is.
docs/adversaries.md explains it.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor, nn

from faithattn import adversarial_attention, exact_adversary, jensen_shannon_divergence

ATTENTION = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
SCORES = torch.tensor([1.0, -1.5, 0.4], dtype=torch.float64)
EPSILON = 0.05
SEEDS = range(6)
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
# Okabe and Ito's colours, told apart without red and green; each has a marker of its own as well.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"


class ThreeWords(nn.Module):
    """Attention as it is given, in logarithms, and one logit that is affine in it."""

    def forward(self, logs: Tensor) -> Tensor:
        return (logs.softmax(-1) * SCORES).sum(-1, keepdim=True)


def place(rows: Tensor) -> NDArray[np.float64]:
    """Points of the plane for distributions ``(..., 3)``."""
    return np.asarray(rows.double().numpy() @ CORNERS)


def slab() -> tuple[float, float]:
    """The logits at which the probability is epsilon lower and higher."""
    probability = torch.sigmoid((ATTENTION * SCORES).sum())
    ends = torch.stack([probability - EPSILON, probability + EPSILON])
    low, high = torch.logit(ends).tolist()
    return low, high


def vertices() -> Tensor:
    """Corners of the triangle between the lines, and the lines' points on its sides."""
    low, high = slab()
    corners = torch.eye(3, dtype=torch.float64)
    found = [corner for corner, score in zip(corners, SCORES, strict=True) if low <= score <= high]
    for i, j in combinations(range(3), 2):
        for level in (low, high):
            share = (level - SCORES[j]) / (SCORES[i] - SCORES[j])
            if 0 < share < 1:
                found.append(share * corners[i] + (1 - share) * corners[j])
    return torch.stack(found)


def search_ends() -> tuple[Tensor, Tensor]:
    """Where the published search ends, ``(n, 3)``, and which of it is within epsilon."""
    logs = ATTENTION.log()[None]
    runs = [
        adversarial_attention(
            ThreeWords(), logs, epsilon=EPSILON, method="published", n_adversaries=5, seed=seed
        )
        for seed in SEEDS
    ]
    rows = torch.cat([run.attention[0] for run in runs])
    return rows, torch.cat([run.feasible[0] for run in runs])


def shade(axes: Axes) -> None:
    """Contours of the divergence from the original, and what the output allows."""
    steps = np.linspace(0, 1, 401)
    first, second = np.meshgrid(steps, steps)
    inside = first + second <= 1 + 1e-9
    grid = np.stack([first, second, 1 - first - second], -1)[inside].clip(0)
    rows = torch.from_numpy(grid / grid.sum(-1, keepdims=True))
    jsd = jensen_shannon_divergence(rows, ATTENTION.expand_as(rows)).numpy()
    logits = (rows * SCORES).sum(-1).numpy()
    x, y = place(rows).T
    levels = np.arange(0.0, 0.5, 0.05)
    lines = axes.tricontour(x, y, jsd, levels[1:], colors="0.6", linewidths=0.8)
    # Labels on the way to corner 2, where nothing else is drawn.
    way = torch.linspace(0, 1, 201, dtype=torch.float64)[:, None]
    way = (1 - way) * ATTENTION + way * torch.eye(3, dtype=torch.float64)[1]
    reached = jensen_shannon_divergence(way, ATTENTION.expand_as(way)).numpy()
    spots = [tuple(place(way[np.searchsorted(reached, level)])) for level in levels[1:5]]
    axes.clabel(lines, fmt="%.2f", fontsize=10, colors="0.3", manual=spots)
    axes.tricontourf(x, y, logits, slab(), colors=[BLUE], alpha=0.18)
    axes.tricontour(x, y, logits, slab(), colors=BLUE, linewidths=1.2, linestyles="solid")
    axes.fill(*CORNERS.T, fill=False, edgecolor="black", linewidth=1.4)


def draw(path: Path) -> None:
    ends, allowed = search_ends()
    best, jsd = exact_adversary(ATTENTION[None], SCORES[None], 0.0, epsilon=EPSILON)
    every = vertices()
    values = jensen_shannon_divergence(every, ATTENTION.expand_as(every))
    reached = jensen_shannon_divergence(ends, ATTENTION.expand_as(ends))
    print(f"allowed logits {slab()[0]:.4f} to {slab()[1]:.4f}")
    for row, value in zip(every.tolist(), values.tolist(), strict=True):
        print("vertex", *(f"{weight:.4f}" for weight in row), f"divergence {value:.4f}")
    print("optimum", *(f"{weight:.4f}" for weight in best[0].tolist()), f"divergence {jsd[0]:.4f}")
    within = reached[allowed]
    print(
        f"published search: {int(allowed.sum())} of {len(ends)} within epsilon, divergence "
        f"{within.min():.4f} to {within.max():.4f}, mean {within.mean():.4f}"
    )

    figure = Figure(figsize=(7, 6.6), layout="constrained")
    axes = figure.subplots()
    shade(axes)
    marks = (
        (ends[allowed], "o", ORANGE, 36, "published search, within epsilon"),
        (ends[~allowed], "x", "black", 36, "published search, beyond epsilon"),
        (every, "s", GREEN, 64, "vertices: one or two words"),
        (best, "*", PINK, 340, f"optimum, divergence {jsd[0]:.3f}"),
        (ATTENTION[None], "D", "black", 64, "the model's own attention"),
    )
    for rows, marker, colour, size, label in marks:
        if len(rows):
            edge = {} if marker == "x" else {"edgecolors": "black", "linewidths": 0.8}
            shown = {"s": size, "c": colour, "marker": marker, "label": label, "zorder": 3}
            axes.scatter(*place(rows).T, **shown, **edge)
    for corner, score, name, drop in zip(CORNERS, SCORES, "123", (-1, -1, 1), strict=True):
        text, align = (
            f"all weight on word {name}\n(score {score:g})",
            {"ha": "center", "va": "center"},
        )
        axes.annotate(text, corner, (0, 20 * drop), textcoords="offset points", **align)
    axes.set(aspect="equal", xlim=(-0.16, 1.16), ylim=(-0.1, 0.97))
    axes.axis("off")
    handles = axes.get_legend_handles_labels()[0]
    handles.insert(0, Patch(facecolor=BLUE, alpha=0.25, edgecolor=BLUE, label="output kept"))
    handles.append(Line2D([], [], color="0.55", label="equal divergence (nats)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=10)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="the picture to write")
    path = parser.parse_args().file
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(path)


if __name__ == "__main__":
    main()
