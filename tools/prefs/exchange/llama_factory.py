"""LLaMA-Factory: sharegpt ranking data, and the `dataset_info.json` through which it finds a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avem.files import json_lines, read_json_lines
from avem.records import PreferenceRow
from avem.tools.prefs.exchange.base import (
    ClipFiles,
    Entry,
    Format,
    clip_of,
    modality_of,
    pair_row,
    pairs,
    remembered,
    rows_of,
    without_marks,
)
from avem.tools.prefs.formats import LLAMA_FACTORY, dataset_info


def write(rows: Sequence[PreferenceRow], path: Path, files: ClipFiles) -> dict[Path, bytes]:
    """One entry for each rejected answer, and the folder's `dataset_info.json` with the file added.

    Raises:
        DataError: `dataset_info.json` is no JSON object.
        SettingError: It describes another file under this name.
    """
    entries = []
    for row, kind, rejected in pairs(rows):
        video, audio = files.files(row.clip_id)
        entries.append(
            {
                "conversations": [{"from": "human", "value": f"<video><audio>{row.question}"}],
                "chosen": {"from": "gpt", "value": row.chosen},
                "rejected": {"from": "gpt", "value": rejected},
                "videos": [video],
                "audios": [audio],
                **remembered(row, kind),
            }
        )
    return {path: json_lines(entries).encode(), path.parent / LLAMA_FACTORY: dataset_info(path).encode()}


def read(path: Path) -> list[PreferenceRow]:
    """Rows of a file that `write` made, or of any ranking file in sharegpt form.

    Raises:
        DataError: An entry is something else.
    """
    if path.suffix == ".json":
        from avem.reading import read_json

        return rows_of(read_json(path, list), _plain, path)
    return rows_of(read_json_lines(path, dict), _plain, path)


def _plain(entry: Entry, number: int) -> PreferenceRow:
    videos, audios = entry.get("videos") or [], entry.get("audios") or []
    question = without_marks(entry["conversations"][-1]["value"])
    chosen, rejected = entry["chosen"]["value"], entry["rejected"]["value"]
    modality = modality_of(videos, audios)
    clip = clip_of([*videos, *audios][0])
    return pair_row(f"llama-factory-{number}", clip, modality, question, chosen, rejected, source="llama-factory")


FORMAT = Format("llama-factory", read, write, "Set dataset_dir to the folder, and dataset to the file's name.")
