"""The proof's figures: one for each group of claims, and the curves of what limits the method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from avem.tools.project.proof.results.counts import MEASURES
from avem.tools.project.proof.results.odds import TWINS
from avem.tools.project.proof.verdicts import FAILS, HOLDS, OPEN, Verdict
from avem.tools.sweep.outcome import svg_text

COLOURS = {HOLDS: "#1a7f5a", FAILS: "#b3372f", OPEN: "#8a8a8a"}
GROUPS = {"table3": "Tables 3, 13, 14", "table5": "Table 5", "table17": "Table 17", "table18": "Table 18"}
"""Name of a figure to the source of its claims: those whose claims are differences that the paper gives too."""
ROW_INCHES = 0.21
TRACED = {
    "auc_hallucinated": ("hallucinated cues, AUC", "#b3372f"),
    "auc_spurious": ("spurious cues, AUC", "#2457a6"),
    "basic": ("basic questions", "#8a6d1a"),
    "stress": ("stress F1", "#1a7f5a"),
}
"""Measures in the curves: what they are called, and their colours."""


def draw_groups(verdicts: Sequence[Verdict], twins: Sequence[Verdict]) -> dict[str, str]:
    """A figure for each of `GROUPS`: a claim a row, in the order of the paper.

    On the left the difference in the paper's measure with its interval, and the paper's difference as a ring; on the
    right the difference in the measure's threshold-free twin, where it has one.

    Args:
        verdicts: What was found; those of other sources are left out.
        twins: The same claims in threshold-free measures.

    Returns:
        Name to SVG; without the groups that have no verdict.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    drawn = {}
    for name, source in GROUPS.items():
        own = [found for found in verdicts if found.claim.source == source]
        if not own:
            continue
        beside = {_key(twin, twin.claim.measure): twin for twin in twins if twin.claim.source == source}
        with rc_context({"svg.fonttype": "none", "font.size": 8}):
            figure = Figure(figsize=(10, ROW_INCHES * len(own) + 1.0), layout="constrained")
            widths = (3, 2) if beside else (1,)
            left, *rest = figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0]
            right = rest[0] if rest else None
            for row, found in enumerate(own):
                _bar(left, row, found)
                if (paper := found.claim.paper_difference) is not None:
                    left.plot(paper, row, "o", markerfacecolor="none", markeredgecolor="#222222", markersize=5)
                if right and (twin := beside.get(_key(found, TWINS.get(found.claim.measure, "")))):
                    _bar(right, row, twin)
            left.set_yticks(range(len(own)), [_label(found) for found in own])
            left.set_ylim(len(own) - 0.4, -0.6)
            left.set_xlabel(
                "points: found with its 95 % interval (dot), the paper's (ring)\n"
                "green: the claim holds; red: it does not; grey: cannot tell"
            )
            if right:
                right.set_xlabel("points of AUC: no threshold")
            for panel in filter(None, (left, right)):
                panel.axvline(0, color="#222222", linewidth=0.8)
                panel.tick_params(axis="y", length=0)
                panel.spines[["top", "right", "left"]].set_visible(False)
            drawn[name] = svg_text(figure, f"proof-{name}")
    return drawn


def _key(found: Verdict, measure: str) -> tuple[str, str, str, str]:
    claim = found.claim
    return claim.source, claim.run, claim.against, measure


def _bar(panel: Any, row: int, found: Verdict) -> None:
    colour = COLOURS[found.outcome]
    if found.low is not None and found.high is not None:
        panel.plot([found.low, found.high], [row, row], color=colour, linewidth=1.6)
    panel.plot(found.difference, row, "o", color=colour, markersize=4)


def _label(found: Verdict) -> str:
    claim = found.claim
    if claim.run == claim.against:
        return f"{claim.run}: {MEASURES[claim.measure]} against {MEASURES.get(claim.against_measure, '')}"
    return f"{claim.run} against {claim.against}: {MEASURES[claim.measure]}"


def draw_curves(points: Sequence[Mapping[str, Any]]) -> str:
    """A panel for each curve: `TRACED` at every point, and what the base tells apart as dotted lines.

    Args:
        points: As `avem.tools.project.proof.trials.trace` returns them.

    Returns:
        SVG; empty without points.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    curves: dict[str, list[Mapping[str, Any]]] = {}
    for point in points:
        curves.setdefault(point["curve"], []).append(point)
    if not curves:
        return ""
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    with rc_context({"svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(3.4 * columns, 2.4 * rows + 0.5), layout="constrained")
        panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
        for panel, (name, own) in zip(panels, curves.items(), strict=False):
            places = range(len(own))
            for measure, (title, colour) in TRACED.items():
                panel.plot(places, [point[measure] for point in own], "o-", color=colour, label=title, markersize=3)
                if measure.startswith("auc"):
                    base = [point[f"base_{measure}"] for point in own]
                    panel.plot(places, base, ":", color=colour, label=f"{title}, base", linewidth=1.2)
            panel.set_xticks(places, [point["value"] for point in own])
            panel.set_title(name, loc="left", fontweight="bold", fontsize=8)
            panel.set_ylim(0, 102)
            panel.spines[["top", "right"]].set_visible(False)
        for panel in panels[len(curves) :]:
            panel.set_visible(False)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        return svg_text(figure, "proof-curves")
