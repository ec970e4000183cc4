"""Several models, or several judges, on the same descriptions (Table 2, Figs. 16 and 17)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np

from avem import __version__
from avem.errors import DataError
from avem.evaluate.emer.bench import EmerResult
from avem.evaluate.intervals import few_note
from avem.evaluate.page import page_environment
from avem.evaluate.sheets import Sheet
from avem.files import save_page
from avem.sealed.files import write_sealed

MOST_CLIPS = 400
"""Most clips that the page shows side by side; the models' own files have all."""

LEDE = (
    "Every model's description beside the reference, with the judges' grades. Clips on which the models' mean grades "
    "differ most come first."
)


def compare_sheet(results: Sequence[EmerResult]) -> Sheet:
    """One row a model and judge: the mean of each criterion with its interval."""
    parts = [result.sheet() for result in results]
    rows = tuple(
        (row[0], result.judge, *row[1:]) for result, part in zip(results, parts, strict=True) for row in part.rows
    )
    records = tuple(record for part in parts for record in part.records)
    return Sheet(
        "EMER, 1 to 10 [95 % interval]", ("model", "judge", *parts[0].header[1:]), rows, records, few_note(rows)
    )


def judge_agreement(results: Sequence[EmerResult]) -> dict[str, dict[str, float | int | None]]:
    """How far several judges agree, criterion by criterion.

    Args:
        results: Of any models by any judges; a description that at least two judges graded counts.

    Returns:
        Criterion to `alpha` (Krippendorff, interval scale; None where it is not defined), `mean_difference` (of two
        judges' grades of one description, in absolute value), `descriptions` and `judges`.
    """
    judges = list(dict.fromkeys(result.judge for result in results))
    found: dict[str, dict[str, float | int | None]] = {}
    for criterion in results[0].criteria:
        grades: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        for result in results:
            asked = set(result.missing)
            for item in result.items:
                if item["grades"] is not None and item["id"] not in asked:
                    grades[result.name, item["id"]][result.judge] = item["grades"][criterion]
        shared = [given for given in grades.values() if len(given) > 1]
        table = np.array([[given.get(judge, np.nan) for given in shared] for judge in judges], dtype=np.float64)
        spread = [
            abs(a - b) for given in shared for n, a in enumerate(given.values()) for b in list(given.values())[:n]
        ]
        alpha = None
        if shared and len(np.unique(table[~np.isnan(table)])) > 1:
            alpha = float(krippendorff.alpha(reliability_data=table, level_of_measurement="interval"))
        found[criterion] = {
            "alpha": alpha,
            "mean_difference": float(np.mean(spread)) if spread else None,
            "descriptions": len(shared),
            "judges": len(judges),
        }
    return found


def agreement_sheet(results: Sequence[EmerResult]) -> Sheet:
    """One row a criterion: Krippendorff's alpha, and the mean difference of two judges' grades."""
    found = judge_agreement(results)
    rows = tuple(
        (
            results[0].criteria[name],
            str(numbers["descriptions"]),
            "-" if numbers["alpha"] is None else f"{numbers['alpha']:.3f}",
            "-" if numbers["mean_difference"] is None else f"{numbers['mean_difference']:.2f}",
        )
        for name, numbers in found.items()
    )
    records = tuple({"criterion": name, **numbers} for name, numbers in found.items())
    header = ("criterion", "descriptions", "Krippendorff's alpha", "mean |difference|")
    return Sheet(f"Agreement of {results[0].judge} and others", header, rows, records)


def side_by_side(results: Sequence[EmerResult]) -> Sheet:
    """One row a clip: the reference, and every model's description with its mean grade by each judge.

    Raises:
        DataError: The results are on different references.
    """
    names = list(dict.fromkeys(result.name for result in results))
    items: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    means: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for item in result.items:
            items[item["id"]][result.name] = item
            if item["grades"] is not None:
                own = [item["grades"][name] for name in result.criteria]
                means[item["id"]][result.name].append(sum(own) / len(own))
    if any(len({str(item["reference"]) for item in own.values()}) > 1 for own in items.values()):
        raise DataError("The results are on different references; grade all models against the same file.")
    spread = {clip: _range([sum(v) / len(v) for v in own.values()]) for clip, own in means.items()}
    ordered = sorted(items, key=lambda clip: (-spread.get(clip, 0.0), clip))[:MOST_CLIPS]
    rows, records = [], []
    for clip in ordered:
        shown = [_described(items[clip].get(name), means[clip][name]) for name in names]
        rows.append((clip, str(next(iter(items[clip].values()))["reference"]), *shown))
        records.append({"id": clip, **{name: means[clip][name] for name in names}})
    return Sheet("Descriptions side by side", ("clip", "reference", *names), tuple(rows), tuple(records))


def write_comparison(folder: Path, results: Sequence[EmerResult]) -> Path:
    """Write `compare.html` and `compare.json` into a folder.

    Args:
        folder: Usually `<out>/emer`.
        results: At least two.
    """
    sheets = [compare_sheet(results)]
    several = len({result.judge for result in results}) > 1
    if several:
        sheets.append(agreement_sheet(results))
    sheets.append(side_by_side(results))
    agreement = judge_agreement(results) if several else {}
    write_sealed(folder / "compare.json", {"results": list(sheets[0].records), "agreement": agreement})
    template = page_environment().get_template("sheets.html.jinja")
    page = template.render(
        title="EMER: models side by side", over="EMER", lede=LEDE, sheets=sheets, pictures=[], version=__version__
    )
    save_page(folder / "compare.html", page)
    return folder / "compare.html"


def _described(item: Mapping[str, Any] | None, means: Sequence[float]) -> str:
    if item is None or not (item["candidate"] or "").strip():
        return "(no description)"
    grades = ", ".join(f"{mean:.1f}" for mean in means)
    return f"{item['candidate']} [{grades}]" if grades else str(item["candidate"])


def _range(values: Sequence[float]) -> float:
    return max(values) - min(values) if values else 0.0
