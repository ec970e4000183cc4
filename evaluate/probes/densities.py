"""Distributions as a picture: kernel density estimates on common axes, or the points of few values; one SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gaussian_kde

from avem.evaluate.intervals import FEWEST
from avem.text.escaping import xml_text

WIDTH, HEIGHT, MARGIN = 420.0, 200.0, 34.0
POINTS = 200
LINE_LETTERS = 64
"""Letters of the title that fit in a line."""

STYLE = "".join(
    f".density {rule}"
    for rule in (
        "text{font:11px system-ui,sans-serif;fill:currentColor}",
        ".axis{stroke:currentColor;stroke-opacity:.4}",
        ".own{fill:#1d5fbf;fill-opacity:.25;stroke:#1d5fbf}",
        ".other{fill:#d9730d;fill-opacity:.2;stroke:#d9730d}",
        "path{stroke-width:1.6}",
        "circle.own,circle.other{fill-opacity:.75;stroke-width:1}",
    )
)


@dataclass(frozen=True, slots=True)
class Sample:
    """Numbers whose distribution is drawn."""

    name: str
    values: NDArray[np.float64]
    kind: str
    """`own` or `other`: the colour."""


def density(values: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian kernel density of a sample, with Scott's bandwidth; a sample of equal values becomes a narrow peak.

    Args:
        values: float64 [n], at least one.
        at: float64 [m].
    """
    extent = float(np.ptp(values))
    if len(values) < 3 or extent < 1e-9:
        width = max((float(at[-1]) - float(at[0])) / 50, 1e-9)
        peaks = np.exp(-0.5 * ((at[:, None] - values) / width) ** 2).mean(axis=1)
        return np.asarray(peaks / (width * np.sqrt(2 * np.pi)))
    return np.asarray(gaussian_kde(values)(at))


def is_few(values: NDArray[np.float64]) -> bool:
    """Whether values are too few for a curve, so that they are drawn as points: fewer than an interval needs."""
    return len(values) < FEWEST


def density_svg(samples: Sequence[Sample], title: str, axis: str) -> str:
    """Draw the samples' densities over each other; of fewer than `FEWEST` values, each value as a point.

    Args:
        samples: At least one, each with at least one value.
        title: Shown above, and what a screen reader says.
        axis: What the numbers are, with their unit.
    """
    everything = np.concatenate([sample.values for sample in samples])
    low, high = float(everything.min()), float(everything.max())
    margin = 0.1 * (high - low) or 0.5
    at = np.linspace(low - margin, high + margin, POINTS)
    curves = [None if is_few(sample.values) else density(sample.values, at) for sample in samples]
    top = max((float(curve.max()) for curve in curves if curve is not None), default=1.0)
    lines = textwrap.wrap(title, LINE_LETTERS) or [""]
    above = 14 * (len(lines) - 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 {-above} {WIDTH:.0f} {HEIGHT + above:.0f}" '
        f'class="density" role="img" aria-label="{xml_text(title)}"><style>{STYLE}</style>'
    ]
    for number, line in enumerate(lines):
        parts.append(f'<text x="{MARGIN}" y="{14 - above + 14 * number}">{xml_text(line)}</text>')
    base = HEIGHT - MARGIN
    for number, (sample, curve) in enumerate(zip(samples, curves, strict=True)):
        scale = (WIDTH - 2 * MARGIN) / (at[-1] - at[0])
        if curve is None:
            y = base - 24 - 34 * number  # a row for each sample, so that equal values do not hide each other
            dots = (MARGIN + (value - at[0]) * scale for value in sample.values)
            parts += [f'<circle class="{sample.kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>' for x in dots]
        else:
            xs = MARGIN + (at - at[0]) * scale
            ys = base - curve / top * (base - 44)
            outline = "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))
            parts.append(f'<path class="{sample.kind}" d="M{xs[0]:.1f} {base}L{outline}L{xs[-1]:.1f} {base}"/>')
        x = MARGIN + 150 * number
        parts.append(f'<rect class="{sample.kind}" x="{x}" y="22" width="10" height="10"/>')
        parts.append(f'<text x="{x + 15}" y="31">{xml_text(sample.name)}</text>')
    parts.append(f'<path class="axis" d="M{MARGIN} {base}H{WIDTH - MARGIN}"/>')
    parts.append(f'<text x="{MARGIN}" y="{base + 14}">{at[0]:.3g}</text>')
    parts.append(f'<text x="{WIDTH - MARGIN}" y="{base + 14}" text-anchor="end">{at[-1]:.3g}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{base + 28}" text-anchor="middle">{xml_text(axis)}</text></svg>')
    return "".join(parts)
