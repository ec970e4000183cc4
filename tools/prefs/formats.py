"""Preference rows in other formats: the reference's JSON, TRL's and LLaMA-Factory's preference files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from avem.emotions import parse_emotion
from avem.errors import DataError, MissingFileError, SettingError
from avem.files import is_json_list, json_lines, write_atomic, write_new
from avem.guards.outputs import Reads
from avem.reading import advise, as_utf8, read_json
from avem.records import Modality, PreferenceRow
from avem.train.data.rows import REJECTED_FIELDS, read_preferences

MEDIA_MARKS = ("<video>", "<audio>")
"""Placeholders that the reference puts before a question, one a line."""
KEPT_FIELDS = ("row_id", "clip_id", "task", "rejected_irrelevant", "provenance")
"""Our fields that the reference's format does not have; written next to its own, so that nothing is lost."""

LLAMA_FACTORY = "dataset_info.json"
"""File in which LLaMA-Factory looks up the others of its folder."""

MediaPath = Callable[[str], str]
"""From a clip id to its file."""


def mp4_of(clip_id: str) -> str:
    """The clip's file where nothing better is known: its id with `.mp4`."""
    return f"{clip_id}.mp4"


def read_rows(path: Path) -> list[PreferenceRow]:
    """Read preference rows, ours (JSON Lines) or the reference's (a JSON list), distinguished by the first character.

    Raises:
        MissingFileError: There is no such file.
        DataError: It holds neither; the message names the line or entry.
    """
    return read_reference(path) if is_reference(path) else read_preferences(path)


def is_reference(path: Path) -> bool:
    """Whether a file holds a JSON list in the reference's form; a list of avem's own rows has no `prompt`.

    Raises:
        MissingFileError: There is no such file.
        DataError: It begins as a JSON list and is none.
    """
    if not path.is_file():
        raise MissingFileError(f"There is no file {path}.")
    with path.open("rb") as file:
        start = file.read(1 << 12)
    if not is_json_list(as_utf8(start[: len(start) // 2 * 2], str(path))):
        return False
    entries = load_entries(path)
    first = entries[0] if entries and isinstance(entries[0], dict) else {}
    return not ("row_id" in first and "prompt" not in first)  # the reference's rows may keep a row_id of ours


def read_reference(path: Path) -> list[PreferenceRow]:
    """Read the reference's JSON: a list of `prompt, chosen, rejected, rejected_2, video, audio`.

    The form does not say what a question is about. `modality` is taken if it is there (we write it); otherwise from
    which rejected input is given (`audio_l`, `video_l`); otherwise it is audiovisual.

    Raises:
        DataError: It is not such a list, or a field of an entry is missing; the message names the entry.
    """
    entries = load_entries(path)
    return [_from_reference(entry, f"{path} entry {number}", number) for number, entry in enumerate(entries, start=1)]


def load_entries(path: Path) -> list[Any]:
    """The entries of a JSON list.

    Raises:
        DataError: The file is not JSON, or not a list.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise DataError(f"{path} should hold a list of preference entries.")
    return entries


def reference_item(entry: Any, number: int) -> dict[str, Any]:
    """One entry of the reference's list as the JSON object of a row of ours; absent fields stay absent."""
    if not isinstance(entry, dict):
        return {"row_id": entry}
    video = entry.get("video") or entry.get("audio")
    clip = entry.get("clip_id") or (str(PurePosixPath(str(video)).with_suffix("")) if video else None)
    item = {name: entry[name] for name in KEPT_FIELDS if name in entry}
    item |= {"task": entry.get("task", ""), "modality": _modality(entry), "clip_id": clip}
    item["row_id"] = entry.get("row_id") or f"{clip}#{number}"
    emotion = entry.get("emotion")
    if emotion is not None:
        item["emotion"] = parse_emotion(str(emotion)) or emotion
    if isinstance(entry.get("prompt"), str):
        item["question"] = _without_marks(entry["prompt"])
    for ours, theirs in (
        ("chosen", "chosen"),
        ("rejected_video_relevant", "rejected"),
        ("rejected_emotion_relevant", "rejected_2"),
    ):
        if theirs in entry:
            item[ours] = entry[theirs]
    return {name: value for name, value in item.items() if value is not None}


def _from_reference(entry: Any, where: str, number: int) -> PreferenceRow:
    if not isinstance(entry, dict):
        raise DataError(f"{where} should be an object.")
    if missing := [name for name in ("prompt", "chosen", "rejected", "rejected_2") if not entry.get(name)]:
        raise DataError(f"{where} has no {', '.join(missing)}.")
    item = reference_item(entry, number)
    if "clip_id" not in item:
        raise DataError(f"{where} has neither video nor audio; one of them must name its clip.")
    try:
        return PreferenceRow(**item | {"modality": Modality(item["modality"])})
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {error}.") from error


def _modality(entry: dict[str, Any]) -> str:
    if "modality" in entry:
        return str(entry["modality"])
    replaced = {name for name in ("audio_l", "video_l") if entry.get(name)}
    only = {frozenset({"audio_l"}): Modality.AUDIO, frozenset({"video_l"}): Modality.VISUAL}
    return str(only.get(frozenset(replaced), Modality.AUDIOVISUAL))


def _without_marks(prompt: str) -> str:
    lines = prompt.split("\n")
    while lines and lines[0].strip() in MEDIA_MARKS:
        lines.pop(0)
    return "\n".join(lines)


def to_reference(row: PreferenceRow, media: MediaPath = mp4_of) -> dict[str, Any]:
    """A row as an entry of the reference's list, with our further fields added."""
    video = media(row.clip_id)
    entry: dict[str, Any] = {
        "prompt": "\n".join((*MEDIA_MARKS, row.question)),
        "chosen": row.chosen,
        "rejected": row.rejected_video_relevant,
        "rejected_2": row.rejected_emotion_relevant,
        "video": video,
        "audio": str(PurePosixPath(video).with_suffix(".wav")),
        "modality": str(row.modality),
        "emotion": row.emotion,
    }
    return entry | {name: getattr(row, name) for name in KEPT_FIELDS}


def to_trl(row: PreferenceRow) -> Iterator[dict[str, Any]]:
    """A row in TRL's conversational preference form, once for each of its rejected answers."""
    for kind, rejected in rejected_answers(row):
        yield {
            "prompt": [{"role": "user", "content": row.question}],
            "chosen": [{"role": "assistant", "content": row.chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
            "row_id": row.row_id,
            "clip_id": row.clip_id,
            "modality": str(row.modality),
            "rejected_kind": kind,
        }


def to_llama_factory(row: PreferenceRow, media: MediaPath = mp4_of) -> Iterator[dict[str, Any]]:
    """A row in LLaMA-Factory's ranking form (sharegpt), once for each of its rejected answers."""
    video = media(row.clip_id)
    for kind, rejected in rejected_answers(row):
        yield {
            "conversations": [{"from": "human", "value": "".join(MEDIA_MARKS) + row.question}],
            "chosen": {"from": "gpt", "value": row.chosen},
            "rejected": {"from": "gpt", "value": rejected},
            "videos": [video],
            "audios": [str(PurePosixPath(video).with_suffix(".wav"))],
            "row_id": row.row_id,
            "rejected_kind": kind,
        }


def rejected_answers(row: PreferenceRow) -> list[tuple[str, str]]:
    """The rejected answers that a row has, with their field names."""
    found = [(field, getattr(row, field)) for field in REJECTED_FIELDS.values()]
    return [(field, answer) for field, answer in found if answer is not None]


def write_rows(
    rows: Sequence[PreferenceRow], path: Path, form: str, media: MediaPath = mp4_of, *, reads: Reads = ()
) -> list[Path]:
    """Write rows in a form.

    Args:
        rows: What to write.
        path: The file.
        form: `rows` (ours), `reference`, `trl` or `llama-factory`; the last also writes `dataset_info.json` next to it.
        media: Gives a clip's file, for the forms that name files.
        reads: The files that the rows are from.

    Returns:
        The files written.

    Raises:
        SettingError: There is no such form, or the file is there with another content.
        WriteError: It can't be written.
    """
    if form == "rows":
        content = json_lines(row.to_json() for row in rows)
    elif form == "reference":
        content = json.dumps([to_reference(row, media) for row in rows], ensure_ascii=False, indent=1)
    elif form == "trl":
        content = json_lines(item for row in rows for item in to_trl(row))
    elif form == "llama-factory":
        content = json_lines(item for row in rows for item in to_llama_factory(row, media))
    else:
        raise SettingError(f"--to {form} is not known; known are rows, reference, trl and llama-factory.")
    if form == "llama-factory" and not path.name:
        raise SettingError(f"{path} is a folder; give a file with OUT.")
    described = dataset_info(path) if form == "llama-factory" else None
    write_new(path, content, reads=reads)
    if described is None:
        return [path]
    write_atomic(path.parent / LLAMA_FACTORY, described)
    return [path, path.parent / LLAMA_FACTORY]


def dataset_info(path: Path) -> str:
    """The folder's `dataset_info.json`, which LLaMA-Factory reads, with the file added.

    Raises:
        DataError: There is one that is not a JSON object.
        SettingError: It describes another file under this name.
    """
    info = path.parent / LLAMA_FACTORY
    try:
        known: dict[str, Any] = read_json(info, dict) if info.is_file() else {}
    except DataError as error:
        raise DataError(advise(error, "repair it, or write into another folder")) from error
    columns = {name: name for name in ("chosen", "rejected", "videos", "audios")} | {"messages": "conversations"}
    entry = {"file_name": path.name, "formatting": "sharegpt", "ranking": True, "columns": columns}
    if known.get(path.stem, entry) != entry:
        raise SettingError(f"{info} describes another {path.stem}; give another name, or write into another folder.")
    return json.dumps(known | {path.stem: entry}, indent=1) + "\n"
