"""Table 2: models against emotion sets and EMER, from the results that benches have left, with the paper's rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from avem.errors import MissingFileError
from avem.evaluate.paper import facts
from avem.evaluate.predict.subtitles import SUFFIX
from avem.evaluate.recognition.labels import emotion_set
from avem.evaluate.recognition.results import read_recognition
from avem.evaluate.sheets import Sheet
from avem.sealed.files import read_sealed

RECOGNITION = {
    "dfew": (("uar", "dfew_uar", "UAR"), ("war", "dfew_war", "WAR")),
    "ravdess": (("uar", "ravdess_uar", "UAR"), ("war", "ravdess_war", "WAR")),
    "mer2023": (("weighted_f1", "mer2023_f1", "F1"),),
}
"""Set to its metrics: ours, the column of Table 2, and its heading."""

EMER = (("Clue", "emer_clue"), ("Label", "emer_label"), ("Spurious", "emer_spurious"))
"""Titles of the rubric's criteria that Table 2 has, and its columns."""

COLUMNS = (*(name for metrics in RECOGNITION.values() for _, name, _ in metrics), *(name for _, name in EMER))


def table_2(folders: Sequence[Path], headline: str = "") -> Sheet:
    """One row a model over all sets whose results lie in some bench folders, then the paper's rows.

    Args:
        folders: Output folders of `avem bench`; a model's results are found by its name.
        headline: `likelihood` or `generation`; empty for likelihood where it was run.

    Raises:
        MissingFileError: There is no result of any set.
    """
    found: dict[str, dict[str, Any]] = {}
    for folder in folders:
        _add_recognition(found, folder, headline)
        _add_emer(found, folder)
    if not found:
        where = ", ".join(map(str, folders))
        sets = ", ".join(RECOGNITION)
        raise MissingFileError(f"There is no result of {sets} or emer in {where}; run `avem bench` first.")
    header = [f"{emotion_set(name).title} {title}" for name, metrics in RECOGNITION.items() for *_, title in metrics]
    header += [f"EMER {title}" for title, _ in EMER]
    rows = [(name, _shown(name), *(_cell(own.get(column)) for column in COLUMNS)) for name, own in found.items()]
    rows += [(row["model"], f"paper, {row['input']}", *(row[column] for column in COLUMNS)) for row in facts(2)]
    records = [{"model": name, "from": "run", **{c: own.get(c) for c in COLUMNS}} for name, own in found.items()]
    records += [
        {"model": row["model"], "from": "paper", **{c: float(row[c]) if row[c] else None for c in COLUMNS}}
        for row in facts(2)
    ]
    note = (
        "Rows of the paper are as printed in its Table 2: full-size models, generated answers (D.1), its own judge and "
        "wording on EMER. A, V, T: sound, frames, subtitles as text."
    )
    return Sheet("Emotion sets, percent; EMER, 1 to 10", ("model", "from", *header), tuple(rows), tuple(records), note)


def _shown(name: str) -> str:
    return "this run, A+V+T" if name.endswith(SUFFIX) else "this run"


def _add_recognition(found: dict[str, dict[str, Any]], folder: Path, headline: str) -> None:
    for dataset, metrics in RECOGNITION.items():
        for path in _sorted(folder.glob(f"{dataset}/*/audiovisual.json")):
            result = read_recognition(path)
            score = result.scores.get(headline) or result.score
            own = found.setdefault(result.name, {})
            own |= {column: score[metric] for metric, column, _ in metrics}


def _add_emer(found: dict[str, dict[str, Any]], folder: Path) -> None:
    for path in _sorted(folder.glob("emer/*/emer.json")):
        content = read_sealed(path)
        means = {title: content["means"][name]["mean"] for name, title in content["criteria"].items()}
        own = found.setdefault(content["name"], {})
        own |= {column: means.get(title) for title, column in EMER}


def _sorted(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
