"""`avem bench wheels`: open labels of a model against those of a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from avem.errors import DataError
from avem.evaluate.openset.wheels import Wheels, label_list, wheel_scores
from avem.evaluate.predict.answers import read_answers
from avem.evaluate.sheets import Sheet
from avem.extract.datasets.tables import read_csv


def read_labels(path: Path) -> dict[str, list[str]]:
    """Open labels of clips: a CSV with `name, openset`, or anything that `read_answers` reads.

    Raises:
        AvemError: It is neither.
    """
    if path.suffix.lower() == ".csv":
        return {row["name"]: label_list(row["openset"]) for row in read_csv(path, ("name", "openset"))}
    return {name: label_list(text) for name, text in read_answers(path).items()}


def wheels_sheet(truth: Path, answers: list[Path], wheels: Wheels) -> Sheet:
    """One row for each file of answers: the mean over the wheels, and F1 of each.

    Raises:
        AvemError: A file can't be read, or no clip of the answers is in the truth.
    """
    labels = read_labels(truth)
    rows, records = [], []
    for path in answers:
        said = read_labels(path)
        if not said.keys() & labels.keys():
            raise DataError(f"None of the clips of {path} is in {truth}; compare the names of the two files.")
        found = wheel_scores(labels, said, wheels)
        each = found["wheels"]
        assert isinstance(each, list)
        numbers = [float(str(found[name])) for name in ("f1", "precision", "recall")] + [one["f1"] for one in each]
        rows.append((path.stem, str(found["n"]), *(f"{number:.2f}" for number in numbers)))
        names = ("f1", "precision", "recall", *(f"wheel{n}_f1" for n in range(1, len(each) + 1)))
        records.append({"answers": path.stem, "n": found["n"], **dict(zip(names, numbers, strict=True))})
    header = ("answers", "n", "F1", "precision", "recall", *(f"wheel {n}" for n in range(1, 6)))
    return Sheet("Open emotion labels", header, tuple(rows), tuple(records), "Percent; F1 is the mean of the wheels.")


def submission(names: list[str], labels: Mapping[str, list[str]]) -> str:
    """Track 2's file: `name, openset`, clips without labels with an empty list."""
    sink = io.StringIO()
    table = csv.writer(sink, lineterminator="\n")
    table.writerow(("name", "openset"))
    table.writerows((name, str(labels.get(name, []))) for name in names)
    return sink.getvalue()
