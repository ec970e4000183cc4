"""The page of an EMER result: grades by criterion, and every description with the judge's reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avem import __version__
from avem.evaluate.emer.bench import EmerResult
from avem.evaluate.emer.rubric import Rubric
from avem.evaluate.intervals import drawn
from avem.evaluate.page import page_environment
from avem.evaluate.paper import EMER, EMER_COLUMNS
from avem.files import save_page

BANDS = ("low", "middle", "high")
"""Thirds of the scale, by which the page's reader chooses clips."""
TICKS = 4


@dataclass(frozen=True, slots=True)
class Criterion:
    """One criterion's numbers; positions on the scale are in percent of its length."""

    name: str
    title: str
    wording: str
    mean: float
    interval: tuple[float, float] | None
    position: float
    span: tuple[float, float] | None
    """Where the interval begins and how long it is; None of too few clips."""
    counts: tuple[int, ...]
    """How often each grade was given, the worst first."""


@dataclass(frozen=True, slots=True)
class Grade:
    """The judge's grade and reason for one description on one criterion."""

    title: str
    value: int
    share: float
    """Of the scale's length, 0 to 1."""
    reason: str


@dataclass(frozen=True, slots=True)
class Card:
    """One clip as the page shows it."""

    id: str
    reference: str
    candidate: str
    problem: str
    grades: tuple[Grade, ...]
    mean: float | None
    tags: str
    """Words by which it is filtered: `cue_overlap-low` and the like."""


def write_emer_report(path: Path, result: EmerResult, rubric: Rubric) -> Path:
    """Write one self-contained page on a result.

    Args:
        path: The file to write.
        result: What `avem.evaluate.emer.bench.bench_emer` gave.
        rubric: The one it was graded by.
    """
    span = rubric.high - rubric.low
    page = (
        page_environment()
        .get_template("emer.html.jinja")
        .render(
            result=result,
            criteria=criteria_of(result, rubric),
            graded=result.graded,
            cards=cards_of(result, rubric),
            bands=bands_of(rubric),
            ticks=[(100 * n / (TICKS - 1), f"{rubric.low + span * n / (TICKS - 1):g}") for n in range(TICKS)],
            grades=range(rubric.low, rubric.high + 1),
            rubric=rubric,
            problems={item["id"]: item["problem"] for item in result.items if item["grades"] is None},
            paper=EMER,
            paper_columns=EMER_COLUMNS,
            version=__version__,
        )
    )
    save_page(path, page)
    return path


def criteria_of(result: EmerResult, rubric: Rubric) -> list[Criterion]:
    """Mean, interval and grade counts of every criterion; clips without a description get the worst grade."""
    wordings = {each["name"]: str(each["wording"]) for each in rubric.content["criteria"]}
    found = []
    for name, mean in result.means.items():
        given = Counter(item["grades"][name] for item in result.items if item["grades"] is not None)
        interval = (mean["low"], mean["high"]) if "low" in mean else None
        shown = drawn(interval, result.graded)
        left, right = (rubric.share(edge) * 100 for edge in shown or (0.0, 0.0))
        counts = tuple(given[grade] for grade in range(rubric.low, rubric.high + 1))
        position, span = rubric.share(mean["mean"]) * 100, (left, right - left) if shown else None
        found.append(
            Criterion(name, result.criteria[name], wordings[name], mean["mean"], interval, position, span, counts)
        )
    return found


def cards_of(result: EmerResult, rubric: Rubric) -> list[Card]:
    """Every clip, the lowest mean grade first; those that the judge did not grade come last."""
    cards = []
    for item in result.items:
        asked = item["id"] not in result.missing
        given = item["grades"] if asked else None
        grades = (
            ()
            if given is None
            else tuple(
                Grade(result.criteria[name], given[name], rubric.share(given[name]), str(given[f"{name}_reason"]))
                for name in rubric.names
            )
        )
        tags = [] if given is None else [f"{name}-{BANDS[_band(given[name], rubric)]}" for name in rubric.names]
        mean = sum(grade.value for grade in grades) / len(grades) if grades else None
        candidate = item["candidate"] or ""
        cards.append(
            Card(item["id"], item["reference"], candidate, item.get("problem", ""), grades, mean, " ".join(tags))
        )
    return sorted(cards, key=lambda card: (card.mean is None, card.mean or 0.0))


def bands_of(rubric: Rubric) -> list[tuple[str, str]]:
    """Each third of the scale with the grades it holds, such as `low`, `1 to 3`."""
    held: dict[int, list[int]] = {}
    for grade in range(rubric.low, rubric.high + 1):
        held.setdefault(_band(grade, rubric), []).append(grade)
    return [(BANDS[band], _range(grades)) for band, grades in sorted(held.items())]


def _band(grade: int, rubric: Rubric) -> int:
    return min(len(BANDS) - 1, (grade - rubric.low) * len(BANDS) // (rubric.high - rubric.low))


def _range(grades: Sequence[int]) -> str:
    return f"{grades[0]} to {grades[-1]}" if len(grades) > 1 else str(grades[0])
