"""Violins: the distribution of a share over questions, side by side (Figs. 5 and 15), as one SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avem.evaluate.probes.densities import density, is_few
from avem.text.escaping import xml_text

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 90.0, 260.0, 40.0, 66.0, 24.0
"""Width of a violin, height of the picture and its margins, in pixels."""
LETTER, LINE = 6.0, 13.0
"""Width of a letter and height of a line of text."""
POINTS = 120

STYLE = "".join(
    f".violins {rule}"
    for rule in (
        "text{font:11px system-ui,sans-serif;fill:currentColor}",
        ".axis{stroke:currentColor;stroke-opacity:.3}",
        ".video{fill:#1d5fbf;fill-opacity:.35;stroke:#1d5fbf}",
        ".audio{fill:#d9730d;fill-opacity:.35;stroke:#d9730d}",
        ".middle{stroke:currentColor;stroke-width:2}",
        "circle.video,circle.audio{fill-opacity:.75}",
    )
)


@dataclass(frozen=True, slots=True)
class Violin:
    """One distribution."""

    name: str
    values: NDArray[np.float64]
    """Percent, float64 [n], at least one."""
    kind: str
    """`video` or `audio`: the colour."""


def violin_svg(violins: Sequence[Violin], title: str, axis: str) -> str:
    """Draw distributions on a scale from 0 to 100 %, each as wide as its own peak, with a line at its median.

    Of few values, each is a point, and there is no line.

    Args:
        violins: At least one.
        title: Shown above, and what a screen reader says.
        axis: What the numbers are.
    """
    names = [_lines(violin.name) for violin in violins]
    bottom = BOTTOM + LINE * max(0, max(map(len, names)) - 3)
    width = max(LEFT + WIDTH * len(violins), LETTER * max(len(title), len(axis)) + LEFT)
    base, full = HEIGHT - BOTTOM, HEIGHT - BOTTOM + bottom

    def height(value: float) -> float:
        return base - value / 100 * (base - TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {full:.0f}" width="{width:.0f}" '
        f'height="{full:.0f}" class="violins" role="img" aria-label="{xml_text(title)}">'
        f'<style>{STYLE}</style><text x="4" y="14">{xml_text(title)}</text>'
    ]
    for tick in (0, 25, 50, 75, 100):
        parts.append(f'<path class="axis" d="M{LEFT} {height(tick):.1f}H{width:.0f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{height(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
    at = np.linspace(0, 100, POINTS)
    for number, violin in enumerate(violins):
        middle = LEFT + WIDTH * (number + 0.5)
        parts += _points(violin, middle, height) if is_few(violin.values) else [_body(violin, middle, at, height)]
        for line, text in enumerate(names[number]):
            y = base + 16 + LINE * line
            parts.append(f'<text x="{middle:.1f}" y="{y:.1f}" text-anchor="middle">{xml_text(text)}</text>')
    parts.append(f'<text x="{LEFT}" y="{full - 4}">{xml_text(axis)}</text></svg>')
    return "".join(parts)


def _lines(name: str) -> list[str]:
    """A name in lines that fit below its violin: parts at commas, long ones broken."""
    most = int(WIDTH / LETTER)
    return [line for part in name.split(", ") for line in textwrap.wrap(part, most)]


def _points(violin: Violin, middle: float, height: Callable[[float], float]) -> list[str]:
    """A circle for each value, side by side so that equal ones do not hide each other."""
    count = len(violin.values)
    xs = [middle + (number - (count - 1) / 2) * WIDTH * 0.07 for number in range(count)]
    return [
        f'<circle class="{violin.kind}" cx="{x:.1f}" cy="{height(float(value)):.1f}" r="4"/>'
        for x, value in zip(xs, violin.values, strict=True)
    ]


def _body(violin: Violin, middle: float, at: NDArray[np.float64], height: Callable[[float], float]) -> str:
    """The outline of a violin with the line at its median."""
    curve = density(violin.values, at)
    half = curve / (curve.max() or 1.0) * WIDTH * 0.42
    seen = half > 0.3
    ys = [height(value) for value in at[seen]]
    right = "L".join(f"{middle + w:.1f} {y:.1f}" for w, y in zip(half[seen], ys, strict=True))
    left = "L".join(f"{middle - w:.1f} {y:.1f}" for w, y in zip(half[seen][::-1], ys[::-1], strict=True))
    median = f"M{middle - 8:.1f} {height(float(np.median(violin.values))):.1f}h16"
    return f'<path class="{violin.kind}" d="M{right}L{left}Z"/><path class="middle" d="{median}"/>'
