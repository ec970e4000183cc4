"""The paper's figures, shown next to results and marked as the paper's; `facts/` holds its tables as printed."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

COLUMNS = (
    "reasoning_basic_audio",
    "reasoning_basic_video",
    "modality_agreement",
    "reasoning_stress_audio",
    "reasoning_stress_video",
)
"""Accuracy for the basic tasks, F1 for the others."""

MEASURED = (
    "The paper's models write a reply, and a regular expression finds the option in it (D.1); its baselines run by "
    "their authors' code with the default system prompts (D.4)."
)
"""How the paper's rows were measured."""

HEADLINE = ("basic_audio", "basic_video", "agreement_f1", "stress_audio_f1", "stress_video_f1")
"""Columns of Table 13 in the order of `COLUMNS`."""


@cache
def facts(table: int) -> tuple[dict[str, str], ...]:
    """A table of the paper as printed: one object a row, an empty text where the paper has a dash.

    Args:
        table: 2, 8, 13, 14, 15, 16 or 19.

    Example:
        >>> facts(13)[0]["model"], facts(13)[0]["average"]
        ('Gemini 2.5 Flash', '72.1')
    """
    text = (files("avem.evaluate") / "facts" / f"table{table}.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(io.StringIO(text)))


def fact_numbers(row: dict[str, str], columns: tuple[str, ...]) -> tuple[float | None, ...]:
    """Some numbers of a row; None where the paper has a dash."""
    return tuple(float(row[column]) if row[column] else None for column in columns)


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One model's row: `values` in the order of `COLUMNS`, and Table 13's average accuracy, all in percent."""

    model: str
    values: tuple[float | None, ...]
    average: float | None
    group: str = "audiovisual"
    """`closed`, `video` (frames alone), `audio` (sound alone) or `audiovisual`."""


@dataclass(frozen=True, slots=True)
class PaperNumbers:
    """One model's numbers on an emotion set, in percent (EMER: grades), in the order of that table's columns."""

    model: str
    values: tuple[float | None, ...]


def _emorealm() -> tuple[PaperRow, ...]:
    """Rows of Table 13 with Table 3's five columns; where the two tables disagree (one cell), Table 3's number."""
    rows = []
    for row in facts(13):
        values = fact_numbers(row, HEADLINE)
        if row["model"] == "+ AVEm-DPO" and values[1] == 89.1:  # Table 3 prints 89.9
            values = (values[0], 89.9, *values[2:])
        rows.append(PaperRow(row["model"], values, fact_numbers(row, ("average",))[0], row["group"]))
    return tuple(rows)


TABLE_13 = _emorealm()
"""All 23 models, rows with a plus below the model they were tuned from."""

TABLE_3 = TABLE_13[-12:]
"""The paper's selection of audiovisual models."""

RECOGNITION_COLUMNS = {
    "dfew": ("UAR", "WAR"),
    "ravdess": ("UAR", "WAR", "video: UAR", "WAR", "audio: UAR", "WAR"),
    "mer2023": ("weighted F1",),
}
"""What the paper reports of each set (Table 2; for RAVDESS Table 19)."""

SET_COLUMNS = {
    "dfew": ("dfew_uar", "dfew_war"),
    "ravdess": ("ravdess_uar", "ravdess_war"),
    "mer2023": ("mer2023_f1",),
    "emer": ("emer_clue", "emer_label", "emer_spurious"),
}
"""Columns of Table 2 of each set."""

SINGLE_STREAMS = ("video_uar", "video_war", "audio_uar", "audio_war")


def _recognition(dataset: str) -> tuple[PaperNumbers, ...]:
    """Table 2's rows of a set; for RAVDESS with Table 19's columns of single streams, where it has the model."""
    single = iter(facts(19))
    following = next(single, None)
    rows = []
    for row in facts(2):
        values = fact_numbers(row, SET_COLUMNS[dataset])
        if dataset == "ravdess":
            if following is not None and following["model"] == row["model"]:
                values += fact_numbers(following, SINGLE_STREAMS)
                following = next(single, None)
            else:
                values += (None,) * len(SINGLE_STREAMS)
        if any(value is not None for value in values):
            rows.append(PaperNumbers(row["model"], values))
    return tuple(rows)


RECOGNITION = {dataset: _recognition(dataset) for dataset in RECOGNITION_COLUMNS}
"""Rows of Tables 2 and 19, rows with a plus below the model they were tuned from."""

EMER_COLUMNS = ("Clue", "Label", "Spurious")

EMER = _recognition("emer")
"""Grades of Table 2, 1 to 10, by the paper's own judge and wording."""
