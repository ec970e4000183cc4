"""MERR, Emotion-LLaMA's data: `MERR_coarse_grained.json` and `MERR_fine_grained.json`.

Both files hold one object: the name of a MER2023 sample, such as `sample_00000047`, to its annotation. `pseu_emotion`
is the label, told from facial action units. `caption` of the coarse file joins descriptions by a template, and
`smp_reason_caption` of the fine one is written by a language model. The data holds no clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avem.errors import DataError
from avem.reading import read_json
from avem.records import InstructionRow, Modality
from avem.tools.prefs.instruct.rows import emotion_row, pick
from avem.tools.prefs.instruct.sources import MERR_LABEL, MERR_TEXTS, is_merr
from avem.tools.prefs.steps.answers import DESCRIBE
from avem.tools.prefs.steps.steps import EMOTION_TASK

TASKS = (*MERR_TEXTS.values(), EMOTION_TASK)


@dataclass(frozen=True, slots=True)
class MerrEntry:
    """One sample."""

    name: str
    texts: Mapping[str, str]
    """Task to account."""
    label: str
    """As the file spells it, lower case; empty where there is none."""
    fault: str = ""
    """Why it can't be used; empty where it can."""


def read_merr(path: Path) -> list[MerrEntry]:
    """Read one of the two files.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is not of this form.
    """
    content = read_json(path)
    if not is_merr(content):
        raise DataError(
            f"{path} is not MERR's JSON: it should hold an object of samples with "
            f"{', '.join(MERR_TEXTS)} or {MERR_LABEL}."
        )
    return [_entry(str(name), value) for name, value in content.items()]


def _entry(name: str, value: Any) -> MerrEntry:
    if not isinstance(value, dict):
        return MerrEntry(name, {}, "", "its annotation is not an object")
    texts: dict[str, str] = {}
    for field, task in MERR_TEXTS.items():
        text = value.get(field)
        if text is None or text == "":
            continue
        if not isinstance(text, str) or not text.strip():
            return MerrEntry(name, {}, "", f"its {field} is not a text")
        texts[task] = text.strip()
    label = value.get(MERR_LABEL, "")
    if not isinstance(label, str) or len(label.split()) > 3:
        return MerrEntry(name, {}, "", f"its {MERR_LABEL} is not a label")
    fault = "" if texts or label.strip() else f"it has none of {', '.join((*MERR_TEXTS, MERR_LABEL))}"
    return MerrEntry(name, texts, label.strip().lower(), fault)


def labels_of(entries: list[MerrEntry]) -> tuple[str, ...]:
    """All labels of a file, in order; fewer than two make no question."""
    return tuple(sorted({entry.label for entry in entries if entry.label}))


def merr_rows(entry: MerrEntry, clip_id: str, labels: tuple[str, ...]) -> list[InstructionRow]:
    """The rows of a sample: its account of the clip, and its label among those of the file.

    Args:
        entry: The sample.
        clip_id: Its clip.
        labels: What the question about the label lists.
    """
    rows = []
    for task, text in entry.texts.items():
        row_id = f"{clip_id}#{task}"
        rows.append(InstructionRow(row_id, clip_id, Modality.AUDIOVISUAL, task, pick(row_id, DESCRIBE), text))
    if entry.label and len(labels) > 1:
        kind = "_".join(["merr", EMOTION_TASK, *(task.removeprefix("merr_") for task in entry.texts)])
        rows.append(emotion_row(clip_id, entry.label, labels, name=kind))
    return rows
