"""Text that means harm, a document full of it, and a browser to try it in."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from faithattn.pages.charts.charts import grid_chart, row_chart
from faithattn.pages.charts.rows import Row, Style
from faithattn.pages.document import (
    Bullets,
    Callout,
    Code,
    Document,
    Explorer,
    Facts,
    Paragraph,
    Section,
    Specimen,
    Table,
    Track,
)

_RAN = "document.documentElement.setAttribute('data-ran','1')"
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def hostile(address: str = "http://127.0.0.1:9") -> tuple[str, ...]:
    """Strings that a careless page would run, load from, or be broken by."""
    return (
        f"</script><img src={address}/a onerror={_RAN}>",
        f"</style><script>{_RAN}</script>",
        f'"><svg onload={_RAN}>',
        f"'><body onpageshow={_RAN}>",
        f"--><script src={address}/b></script><!--",
        f"]]><iframe src={address}/c></iframe>",
        f"<link rel=stylesheet href={address}/d><style>@import '{address}/e'</style>",
        "&#x3c;img src=x&#x3e; &lt;b&gt; &amp;",
        "\u202egnp.exe\u202c \u2066x",
        "nul\x00 bell\x07 escape\x1b[31m",
        "lone \ud800 surrogate \udfff",
        "w" * 10_000,
        "| * _ [x](javascript:alert(1)) ![x](x) `a` <!-- # $x^$ ~~",
        "</td></table></title></textarea></svg></desc></title>",
        "شاهد الفيلم",
        "e\u0301\u0301\u0301 日本語 \N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}",
        "",
    )


def full_document(words: tuple[str, ...], names: tuple[str, ...] | None = None) -> Document:
    """Every kind of part, with the words wherever text can be."""
    names = names or words
    name, other = names[0], names[1 % len(names)]
    every = tuple((word, word, "-0.5") for word in words)
    rows = [
        Row(word, word, mean=0.2, interval=(0.1, 0.3), band=(-0.1, 0.1), marks={"random": 0.0})
        for word in names
    ]
    values = [[0.1] * len(names), [0.9] * len(names)]
    specimens = tuple(
        Specimen(
            word,
            names[place % len(names)],
            words,
            (
                Track(name, tuple(0.1 * (each % 9) for each in range(len(words))), 0.8),
                Track(other, tuple(0.1 * (n % 5) - 0.2 for n in range(len(words))), 0.2, "scores"),
            ),
            {name: float("nan") if place == 1 else 0.1 * place, "length": place},
            word,
        )
        for place, word in enumerate(names)
    )  # fmt: skip
    style = Style(name, within=(-1, 1), lines={other: 0.5})
    parts = [Section(word, (Paragraph(word), Code(f"{word}\n{word}"))) for word in words]
    return Document(
        name,
        other,
        (
            *parts,
            Section(
                "Parts",
                (
                    Bullets(words),
                    Facts(tuple((word, word) for word in words)),
                    Table(name, (name, other, "n"), every),
                    Table(name, (name, other, "n"), every, folded=True),
                    *(Callout("supports", word, word, word) for word in words),
                    row_chart("rows", name, other, rows, style),
                    grid_chart(
                        "grid", name, other, values, rows=names[:2], columns=names, quantity=name
                    ),
                    Explorer(name, other, specimens),
                ),
            ),
        ),
    )


@dataclass(frozen=True)
class Seen:
    """What a browser made of a page."""

    page: str
    console: tuple[str, ...]


def browse(page: Path, profile: Path) -> Seen:
    """Opens a page without a window."""
    assert BROWSER is not None
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--disable-background-networking", "--no-first-run", f"--user-data-dir={profile}",
            "--enable-logging=stderr", "--virtual-time-budget=2000", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    errors = done.stderr.decode("utf-8", "replace").splitlines()
    console = tuple(line for line in errors if "CONSOLE" in line)
    return Seen(done.stdout.decode("utf-8", "replace"), console)
