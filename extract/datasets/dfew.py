"""DFEW (Jiang et al., 2020): numbered clips, labels in an Excel sheet or in the CSV lists of fold 1."""

from __future__ import annotations

from pathlib import Path

from avem.extract.datasets.base import (
    DatasetReader,
    first_existing,
    need,
    relative,
    sound_beside,
    videos_in,
    without_suffix,
)
from avem.extract.datasets.tables import read_csv, read_xlsx
from avem.records import Clip, Emotion

NAME = "dfew"
MEDIA = ("Clip/original", "dfew_original_clips_24fps")
SOUND = {"dfew_original_clips_24fps": "dfew_original_clips_16khz"}
SHEETS = ("Annotation/annotation.xlsx", "dfew_annotation/annotation.xlsx")
LISTS = ("EmoLabel_DataSplit", "dfew_annotation")
LABELS: dict[str, tuple[str, Emotion | None]] = {
    "1": ("happy", Emotion.HAPPINESS),
    "2": ("sad", Emotion.SADNESS),
    "3": ("neutral", Emotion.NEUTRAL),
    "4": ("angry", Emotion.ANGER),
    "5": ("surprise", Emotion.SURPRISE),
    "6": ("disgust", Emotion.DISGUST),
    "7": ("fear", Emotion.FEAR),
    "0": ("no single label", None),
}


def recognises(root: Path) -> bool:
    """Whether one of DFEW's two media folders is there."""
    return any((root / folder).is_dir() for folder in MEDIA)


def read(root: Path) -> list[Clip]:
    """All clips, with the split of fold 1 where its lists are there."""
    media = need(first_existing(root, *MEDIA), root, " or ".join(MEDIA))
    labels, splits = _labels(root)
    clips = []
    for path in [*videos_in(media), *videos_in(media, "part_*/*")]:
        name = relative(path, media)
        number = path.stem.lstrip("0") or "0"
        raw, emotion = LABELS.get(labels.get(number, ""), ("", None))
        sound = root / SOUND.get(media.name, media.name) / f"{without_suffix(name)}.wav"
        clips.append(
            Clip(
                clip_id=f"{NAME}/{without_suffix(name)}",
                dataset=NAME,
                path=relative(path, root),
                emotion=emotion,
                emotions_raw=raw,
                split=splits.get(number, ""),
                audio_path=relative(sound, root) if sound.is_file() else sound_beside(path, root),
            )
        )
    return clips


def _labels(root: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Label code and split of each clip number, from the sheet and from fold 1's lists, which win."""
    sheet = first_existing(root, *SHEETS)
    rows = read_xlsx(sheet, ("order", "label")) if sheet else []
    labels = {row["order"]: row["label"] for row in rows}
    splits = {}
    for split in ("train", "test"):
        table = first_existing(root, *(f"{folder}/{split}(single-labeled)/set_1.csv" for folder in LISTS))
        for row in read_csv(table, ("video_name", "label")) if table else []:
            number = Path(row["video_name"]).stem.lstrip("0")
            labels[number], splits[number] = row["label"], split
    if not labels:
        need(None, root, f"labels: {SHEETS[0]} or {LISTS[0]}/train(single-labeled)/set_1.csv")
    return labels, splits


READER = DatasetReader(NAME, "Clip/original/*.mp4 or dfew_original_clips_24fps/part_*/*.mp4", recognises, read)
