"""The emotion-wheel metric of MER-UniBench (AffectGPT, ICML 2025) and MER2026's track 2.

A label goes three steps: `format.csv` takes a form of a word to the word ("angered" to "anger"), `synonym.xlsx` takes
the word to words of the wheels, and each of `wheel1.xlsx` to `wheel5.xlsx` takes those to its innermost level. Words
that a step does not know are dropped. Precision and recall of the two sets are averaged over clips, F1 is that of the
averages, and the score is the mean F1 of the five wheels.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avem.errors import DataError, MissingFileError
from avem.extract.datasets.tables import read_csv, read_grid
from avem.text.csv_tables import Row

WHEELS = 5
RUNS = 8
"""Columns of synonyms: `word_run1, synonym_run1` to `word_run8, synonym_run8`."""
LEVELS = ("level1", "level2", "level3")


def label_list(text: str) -> list[str]:
    """Labels of a cell or a reply: `['happy', 'proud']`, `happy, proud` and `"happy"` all read; lower case.

    Example:
        >>> label_list("['Happy', 'at ease']"), label_list("[sad,angry]"), label_list("")
        (['happy', 'at ease'], ['sad', 'angry'], [])
    """
    inside = text.strip().removeprefix("[").removesuffix("]")
    return [part.strip().lower() for part in re.split("['\",]", inside) if part.strip()]


@dataclass(frozen=True, slots=True)
class Wheels:
    """The tables of the metric."""

    forms: Mapping[str, frozenset[str]]
    """A form of a word to the words that it may be of."""
    synonyms: Mapping[str, frozenset[str]]
    """A word to the words of the wheels that it is a synonym of."""
    inner: tuple[Mapping[str, str], ...]
    """For each wheel, a word at any level to the innermost level."""

    def group(self, label: str, wheel: int) -> str | None:
        """The innermost emotion that a label means on a wheel; None where a step does not know it.

        Where a label leads to several words, the first in the alphabet that the wheel has is taken.
        """
        words = sorted({word for form in self.forms.get(label, ()) for word in self.synonyms.get(form, ())})
        return next((self.inner[wheel][word] for word in words if word in self.inner[wheel]), None)

    def groups(self, labels: Iterable[str], wheel: int) -> set[str]:
        """The emotions that labels mean on a wheel, without those that it does not know."""
        found = (self.group(label.strip().lower(), wheel) for label in labels)
        return {group for group in found if group is not None}


def read_wheels(folder: Path) -> Wheels:
    """Read the metric's tables, of which each may be a CSV or an Excel file.

    Args:
        folder: Holds `format`, `synonym` and `wheel1` to `wheel5`, each with `.csv` or `.xlsx`, as MER2025's and
            MER2026's repositories have them in `emotion_wheel/`.

    Raises:
        MissingFileError: A table is missing.
        DataError: A table lacks a column.
    """
    forms: dict[str, set[str]] = defaultdict(set)
    for row in _table(folder, "format", ("name", "format")):
        forms[row["name"].lower()].add(row["name"].lower())
        for form in label_list(row["format"]):
            forms[form].add(row["name"].lower())
    synonyms: dict[str, set[str]] = defaultdict(set)
    rows = _table(folder, "synonym", ("word_run1", "synonym_run1"))
    runs = [run for run in range(1, RUNS + 1) if rows and f"word_run{run}" in rows[0]]
    for row in rows:
        for run in runs:
            if word := row.get(f"word_run{run}", "").strip().lower():
                synonyms[word].add(word)
                for synonym in label_list(row.get(f"synonym_run{run}", "")):
                    synonyms[synonym].add(word)
    return Wheels(
        {form: frozenset(words) for form, words in forms.items()},
        {word: frozenset(words) for word, words in synonyms.items()},
        tuple(_inner(_table(folder, f"wheel{number}", LEVELS)) for number in range(1, WHEELS + 1)),
    )


def wheel_scores(
    truth: Mapping[str, Iterable[str]], said: Mapping[str, Iterable[str]], wheels: Wheels
) -> dict[str, float | int | list[dict[str, float]]]:
    """Score open labels, in percent.

    Args:
        truth: Clip to its labels.
        said: Clip to the labels of a model; a clip that is missing counts as one without labels.
        wheels: See `read_wheels`.

    Returns:
        `f1`, `precision`, `recall` (means over the wheels), `n` (clips with a label that a wheel knows, on the wheel
        that knows most) and `wheels`, the numbers of each. A clip whose true labels a wheel does not know is left out
        on that wheel; one without a known label of the model's has 0.

    Raises:
        DataError: There is nothing to score.
    """
    if not truth:
        raise DataError("There are no true labels to score against.")
    each = []
    counts = []
    for wheel in range(len(wheels.inner)):
        pairs = []
        for clip, labels in truth.items():
            right = wheels.groups(labels, wheel)
            if not right:
                continue
            given = wheels.groups(said.get(clip, ()), wheel)
            both = len(right & given)
            pairs.append((both / len(given) if given else 0.0, both / len(right)))
        precision, recall = np.mean(pairs, axis=0) if pairs else (0.0, 0.0)
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        each.append({"f1": 100 * float(f1), "precision": 100 * float(precision), "recall": 100 * float(recall)})
        counts.append(len(pairs))
    means = {name: float(np.mean([numbers[name] for numbers in each])) for name in ("f1", "precision", "recall")}
    return {**means, "n": max(counts), "wheels": each}


def _inner(rows: list[Row]) -> dict[str, str]:
    """Words of a wheel to its first level; a cell that is empty repeats the one above."""
    inner: dict[str, str] = {}
    above = dict.fromkeys(LEVELS, "")
    members: dict[str, list[str]] = {}
    for row in rows:
        above = {level: row[level].strip().lower() or above[level] for level in LEVELS}
        members.setdefault(above["level1"], []).extend((above["level2"], above["level3"]))
    for first, words in members.items():  # a word in two parts of a wheel belongs to the later one
        inner |= dict.fromkeys((first, *words), first)
    inner.pop("", None)
    return inner


def _table(folder: Path, name: str, columns: tuple[str, ...]) -> list[Row]:
    for suffix in (".csv", ".xlsx"):
        path = folder / f"{name}{suffix}"
        if not path.is_file():
            continue
        if suffix == ".csv":
            return read_csv(path, columns)
        grid = read_grid(path)
        header = grid[0] if grid else []
        if missing := [column for column in columns if column not in header]:
            raise DataError(
                f"{path} has no column {', '.join(missing)}; its columns are {', '.join(header) or 'none'}."
            )
        return [{**dict.fromkeys(header, ""), **dict(zip(header, cells, strict=False))} for cells in grid[1:]]
    raise MissingFileError(
        f"{folder} has no {name}.csv or {name}.xlsx; give the folder emotion_wheel of MER2026's repository."
    )
