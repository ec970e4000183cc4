"""MER2025 (Lian et al., 2025): `video/NAME.mp4`, `audio/NAME.wav`, one table a track."""

from __future__ import annotations

import ast
from pathlib import Path

from avem.extract.datasets.base import DatasetReader, emotion_of, relative, videos_in
from avem.extract.datasets.tables import read_csv
from avem.records import Clip

NAME = "mer2025"
LABELS = "track1_train_disdim.csv"
OPEN_LABELS = ("track2_train_ovmerd.csv", "track2_train_mercaptionplus.csv")
DESCRIPTIONS = ("track3_train_ovmerd.csv", "track3_train_mercaptionplus.csv")
CANDIDATES = "track_all_candidates.csv"
TABLES = (LABELS, *OPEN_LABELS, *DESCRIPTIONS, CANDIDATES)


def recognises(root: Path) -> bool:
    """Whether the video folder and one of the track tables are there."""
    return (root / "video").is_dir() and any((root / name).is_file() for name in TABLES)


def read(root: Path) -> list[Clip]:
    """All clips: track 1's label; else track 2's open labels, kept raw; test candidates have neither."""
    single = {row["name"]: row["discrete"] for row in _rows(root, LABELS, ("name", "discrete"))}
    open_labels = {
        row["name"]: open_set(row["openset"]) for name in OPEN_LABELS for row in _rows(root, name, ("name", "openset"))
    }
    train = {*single, *open_labels, *(row["name"] for name in DESCRIPTIONS for row in _rows(root, name, ("name",)))}
    candidates = {row["name"] for row in _rows(root, CANDIDATES, ("name",))}
    clips = []
    for path in videos_in(root / "video"):
        sound = root / "audio" / f"{path.stem}.wav"
        clips.append(
            Clip(
                clip_id=f"{NAME}/{path.stem}",
                dataset=NAME,
                path=relative(path, root),
                emotion=emotion_of(single.get(path.stem, "")),
                emotions_raw=single.get(path.stem) or open_labels.get(path.stem, ""),
                split="train" if path.stem in train else "candidate" if path.stem in candidates else "",
                audio_path=relative(sound, root) if sound.is_file() else "",
            )
        )
    return clips


def _rows(root: Path, name: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    return read_csv(root / name, columns) if (root / name).is_file() else []


def open_set(text: str) -> str:
    """`"['happy', 'proud']"` as `happy, proud`; anything else as it is."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else text


READER = DatasetReader(NAME, f"video/*.mp4 with {LABELS} or another track table", recognises, read)
