"""Confusion counts as a picture: one SVG that fits a page and stands alone as a file."""

from __future__ import annotations

from collections.abc import Sequence

from avem.text.escaping import xml_text

CELL, LABEL, HEAD = 46, 84, 60
"""Sizes in the picture's own units."""
DARKEST = 0.6
"""Opacity of a cell that has its whole row: numbers in the page's ink keep a contrast of 4.5 on it, light and dark."""

STYLE = "".join(
    f".confusion {rule}"
    for rule in (
        "text{font:12px system-ui,sans-serif;fill:currentColor}",
        ".n{text-anchor:middle}",
        ".r{text-anchor:end}",
        ".cell{fill:#1d5fbf}",
        ".none{fill:#8a8f98}",
        ".frame{fill:none;stroke:currentColor;stroke-opacity:.25}",
    )
)
"""Every rule names the picture, because a page with the picture in it shares them."""


def confusion_svg(confusion: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> str:
    """Draw confusion counts: a row a true label, a column a prediction, shaded by the share of the row.

    Args:
        confusion: int [C, C + 1]; the last column counts clips without a readable prediction.
        classes: C labels.
        title: What a screen reader says.
    """
    columns = [*classes, "none"]
    width, height = LABEL + CELL * len(columns) + 8, HEAD + CELL * len(classes) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{xml_text(title)}" class="confusion"><style>{STYLE}</style>'
    ]
    for column, name in enumerate(columns):
        x = LABEL + CELL * (column + 0.5)
        parts.append(f'<text transform="translate({x + 4:.0f},{HEAD - 6}) rotate(-45)">{xml_text(name)}</text>')
    for row, (name, counts) in enumerate(zip(classes, confusion, strict=True)):
        y, total = HEAD + CELL * row, sum(counts)
        parts.append(f'<text class="r" x="{LABEL - 8}" y="{y + CELL / 2 + 4:.0f}">{xml_text(name)}</text>')
        for column, count in enumerate(counts):
            parts.append(_cell(LABEL + CELL * column, y, count, total, last=column == len(classes)))
    return "".join([*parts, "</svg>"])


def _cell(x: int, y: int, count: int, total: int, *, last: bool) -> str:
    share = count / total if total else 0.0
    kind = "none" if last else "cell"
    number = f'<text class="n" x="{x + CELL // 2}" y="{y + CELL // 2 + 4}">{count}</text>' if count else ""
    box = f'x="{x}" y="{y}" width="{CELL - 2}" height="{CELL - 2}" rx="4"'
    shade = f'<rect class="{kind}" {box} fill-opacity="{DARKEST * share:.2f}"/>' if count else ""
    return f'{shade}<rect class="frame" {box}/>{number}'
