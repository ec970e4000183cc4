"""EMER (D.1): emotion descriptions graded by a judge model after a rubric of four criteria."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from avem.endpoint.chat_replies import parse_plain_json
from avem.errors import DataError, MissingFileError
from avem.evaluate.bootstrap import mean_intervals
from avem.evaluate.emorealm.replies import without_thoughts
from avem.files import json_sha256, read_json_lines
from avem.reading import parse_json, read_json
from avem.text.csv_tables import read_rows
from avem.text.escaping import csv_value

DESCRIBE = "Describe the audiovisual content relevant to emotion in detail."
"""The prompt for models (Appendix F)."""

REFERENCE_FIELDS = ("reference", "description", "reason", "caption", "text")
"""Fields that may hold the reference description; the first one present counts."""


@dataclass(frozen=True, slots=True)
class Rubric:
    """The judge's instructions: wording, criteria and scale."""

    content: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The criteria as the judge's JSON names them."""
        return tuple(criterion["name"] for criterion in self.content["criteria"])

    @property
    def titles(self) -> dict[str, str]:
        """Criterion to its column in Table 2."""
        return {criterion["name"]: criterion["title"] for criterion in self.content["criteria"]}

    @property
    def low(self) -> int:
        """The worst grade."""
        return int(self.content["low"])

    @property
    def high(self) -> int:
        """The best grade."""
        return int(self.content["high"])

    def share(self, grade: float) -> float:
        """Where a grade stands on the scale: 0 at the worst, 1 at the best."""
        return (grade - self.low) / (self.high - self.low)

    @property
    def digest(self) -> str:
        """Hash of the whole rubric; grades under another rubric are never mixed with these."""
        return json_sha256(dict(self.content))

    def messages(self, reference: str, candidate: str) -> list[dict[str, str]]:
        """The messages to the judge for one clip."""
        scale = {"low": self.content["low"], "high": self.content["high"], "names": ", ".join(self.names)}
        criteria = "\n".join(f"- {each['name']}: {each['wording']}" for each in self.content["criteria"])
        parts = (
            self.content["task"].format(**scale),
            criteria,
            self.content["form"].format(**scale),
            f"<reference>\n{reference}\n</reference>",
            f"<candidate>\n{candidate}\n</candidate>",
        )
        return [{"role": "system", "content": self.content["role"]}, {"role": "user", "content": "\n\n".join(parts)}]

    def reminder(self, problem: str) -> str:
        """The message to the judge after a reply that can't be used."""
        return str(self.content["reminder"].format(problem=problem))

    def read(self, reply: str) -> dict[str, Any]:
        """A judge's reply as grades and reasons; only the one required object is accepted.

        Raises:
            ValueError: It is something else; the message says what is wrong.
        """
        text = re.sub(r"^\s*```(?:json)?\s*|\s*```\s*$", "", without_thoughts(reply).strip())
        try:
            grades = parse_plain_json(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"it is not JSON: {error.msg}") from error
        if not isinstance(grades, dict):
            raise ValueError("it is not an object")
        wanted = {name for each in self.names for name in (each, f"{each}_reason")}
        if grades.keys() != wanted:
            raise ValueError(f"these keys are missing or too many: {', '.join(sorted(wanted ^ grades.keys()))[:200]}")
        for name in self.names:
            grade = grades[name]
            if type(grade) is not int or not self.low <= grade <= self.high:
                raise ValueError(f"{name} is {repr(grade)[:40]}, not a whole number from {self.low} to {self.high}")
            if not isinstance(grades[f"{name}_reason"], str):
                raise ValueError(f"{name}_reason is not text")
        return grades


def load_rubric(path: Path | None = None) -> Rubric:
    """The rubric that comes with the package, or one of the same form.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is not a rubric.
    """
    if path is not None and not path.is_file():
        raise MissingFileError(f"There is no rubric {path}; leave out --rubric to use the default one.")
    source = path or files("avem.evaluate") / "templates" / "emer_rubric.json"
    try:
        rubric = Rubric(read_json(path, dict) if path else parse_json(source.read_bytes(), str(source), dict))
        rubric.messages("", "")
        rubric.reminder("")
        if not (rubric.low < rubric.high and rubric.titles):
            raise ValueError("it has no criteria, or its scale no length")
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{source} is not a rubric ({error}); copy the default one and change its wording.") from error
    return rubric


@dataclass(frozen=True, slots=True)
class Description:
    """A clip and its reference description."""

    id: str
    reference: str
    video: str
    """Clip file or id, for models that read a store; the id where the file names none."""


def read_references(path: Path) -> list[Description]:
    """Read reference descriptions: CSV, a JSON list or JSON Lines with `id` or `name` and one of `REFERENCE_FIELDS`.

    EMER is distributed as CSV with the columns `name` and `reason`.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is something else, an id occurs twice, or there is no description.
    """
    if not path.is_file():
        raise MissingFileError(f"There are no descriptions at {path}; name a file with --references.")
    if path.suffix == ".jsonl":
        found = read_json_lines(path, _description)
    elif path.suffix == ".csv":
        found = _read_csv(path)
    else:
        try:
            entries = read_json(path)
            if not isinstance(entries, list):
                raise ValueError("it should hold a list of objects with id and reference")
            found = [_description(entry) for entry in entries]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} can't be read as descriptions ({error}).") from error
    ids = [each.id for each in found]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice is not None or not found:
        raise DataError(f"{path} holds no descriptions." if not found else f"{path}: the id {twice} occurs twice.")
    return found


def _read_csv(path: Path) -> list[Description]:
    found = []
    for number, row in read_rows(path, ("id", "name", "video", *REFERENCE_FIELDS))[1]:
        try:
            found.append(_description({name: csv_value(value) for name, value in row.items()}))
        except (KeyError, ValueError) as error:
            raise DataError(f"{path} line {number} can't be read as a description ({error}).") from error
    return found


def _description(entry: Mapping[str, Any]) -> Description:
    text = next((entry[field] for field in REFERENCE_FIELDS if field in entry), None)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{entry.get('id', 'an entry')} has no text in any of {', '.join(REFERENCE_FIELDS)}")
    name = entry["id"] if "id" in entry else entry["name"]
    return Description(str(name), text, str(entry.get("video") or name))


def grade_means(
    grades: Sequence[Mapping[str, float]], names: Sequence[str], resamples: int = 0, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Mean of each criterion over clips, with a 95 % bootstrap interval (`low`, `high`) if `resamples` is positive."""
    values = np.array([[grade[name] for name in names] for grade in grades], dtype=np.float64)
    result = {name: {"mean": float(mean)} for name, mean in zip(names, values.mean(axis=0), strict=True)}
    if resamples:
        clips = [f"{number:09d}" for number in range(len(values))]  # each clip is graded once
        for name, (low, high) in zip(names, mean_intervals(values, clips, resamples, seed), strict=True):
            result[name] |= {"low": low, "high": high}
    return result
