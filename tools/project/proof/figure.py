"""The proof's figure of claims: every difference next to the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from avem.tools.project.proof.results.counts import MEASURES
from avem.tools.project.proof.verdicts import FAILS, HOLDS, OPEN, Verdict
from avem.tools.sweep.outcome import svg_text

COLOURS = {HOLDS: "#1a7f5a", FAILS: "#b3372f", OPEN: "#8a8a8a"}
SHOWN = (("Tables 3, 13, 14", "Table 5"), ("Table 17", "Table 18"))
"""Sources that are drawn, column by column: those whose claims are differences that the paper gives too."""
ROW_INCHES = 0.21


def draw_claims(verdicts: Sequence[Verdict]) -> str:
    """A panel for each of `SHOWN`: a claim's difference with its interval, and the paper's difference as a hollow mark.

    Args:
        verdicts: What was found; those of other sources are left out.

    Returns:
        SVG; empty where there is nothing to draw.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    columns = [_groups(verdicts, sources) for sources in SHOWN]
    columns = [groups for groups in columns if groups]
    if not columns:
        return ""
    heights = [ROW_INCHES * sum(map(len, groups.values())) + 0.9 * len(groups) for groups in columns]
    with rc_context({"svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(8 * len(columns), max(heights)), layout="constrained")
        for part, groups in zip(figure.subfigures(1, len(columns), squeeze=False)[0], columns, strict=True):
            sizes = [len(own) for own in groups.values()]
            panels = part.subplots(len(sizes), 1, squeeze=False, sharex=True, height_ratios=sizes)[:, 0]
            for panel, (name, own) in zip(panels, groups.items(), strict=True):
                _panel(panel, name, own)
            panels[-1].set_xlabel("points: found with its 95 % interval (dot), the paper's (ring)")
        return svg_text(figure, "proof")


def _groups(verdicts: Sequence[Verdict], sources: Sequence[str]) -> dict[str, list[Verdict]]:
    """Source to its verdicts, without those that have none."""
    groups = {source: [found for found in verdicts if found.claim.source == source] for source in sources}
    return {source: own for source, own in groups.items() if own}


def _panel(panel: Any, name: str, verdicts: Sequence[Verdict]) -> None:
    for row, found in enumerate(verdicts):
        colour = COLOURS[found.outcome]
        if found.low is not None and found.high is not None:
            panel.plot([found.low, found.high], [row, row], color=colour, linewidth=1.6)
        panel.plot(found.difference, row, "o", color=colour, markersize=4)
        if (paper := found.claim.paper_difference) is not None:
            panel.plot(paper, row, "o", markerfacecolor="none", markeredgecolor="#222222", markersize=5)
    panel.axvline(0, color="#222222", linewidth=0.8)
    panel.set_yticks(range(len(verdicts)), [_label(found) for found in verdicts])
    panel.set_ylim(len(verdicts) - 0.4, -0.6)
    panel.set_title(name, loc="left", fontweight="bold", fontsize=9)
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)


def _label(found: Verdict) -> str:
    claim = found.claim
    other = MEASURES.get(claim.against_measure, "") if claim.run == claim.against else claim.against
    return f"{claim.run} against {other}: {MEASURES[claim.measure]}"
