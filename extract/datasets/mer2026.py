"""MER2026 (ACM Multimedia 2026): `video/NAME.mp4`, `audio/NAME.wav`, and one table a track.

Track 1 has one label a clip, track 2 open labels (`openset`), track 3 pairs of descriptions with people's preference
(`a1, a2, preference`), which `avem bench mer-prefer` and `avem prefs import --from emoprefer` read.
"""

from __future__ import annotations

from pathlib import Path

from avem.extract.datasets.base import DatasetReader, emotion_of, relative, videos_in
from avem.extract.datasets.mer2025 import open_set
from avem.extract.datasets.tables import read_csv
from avem.records import Clip
from avem.text.csv_tables import Row

NAME = "mer2026"
LABELS = "track1_train.csv"
OPEN_LABELS = ("track2_train_human.csv", "track2_train_mercaptionplus.csv")
PREFERENCES = ("track3_emoprefer.csv", "track3_emopreferv2.csv")
CANDIDATES = ("track1_track2_candidate.csv", "track3_candidate.csv")
TABLES = (LABELS, OPEN_LABELS[0], *PREFERENCES, *CANDIDATES)
"""Tables that tell it apart; MER2025 has `track2_train_mercaptionplus.csv`, too."""


def recognises(root: Path) -> bool:
    """Whether the video folder and one of the track tables are there."""
    return (root / "video").is_dir() and any((root / name).is_file() for name in TABLES)


def read(root: Path) -> list[Clip]:
    """All clips: track 1's label; else track 2's open labels, those of people first, kept raw."""
    single = {row["name"]: row["discrete"] for row in _rows(root, LABELS, ("name", "discrete"))}
    labels: dict[str, str] = {}
    for name in OPEN_LABELS:
        for row in _rows(root, name, ("name", "openset")):
            labels.setdefault(row["name"], open_set(row["openset"]))
    train = {*single, *labels, *(row["name"] for name in PREFERENCES for row in _rows(root, name, ("name",)))}
    candidates = {row["name"] for name in CANDIDATES for row in _rows(root, name, ("name",))}
    clips = []
    for path in videos_in(root / "video"):
        sound = root / "audio" / f"{path.stem}.wav"
        clips.append(
            Clip(
                clip_id=f"{NAME}/{path.stem}",
                dataset=NAME,
                path=relative(path, root),
                emotion=emotion_of(single.get(path.stem, "")),
                emotions_raw=single.get(path.stem) or labels.get(path.stem, ""),
                split="train" if path.stem in train else "candidate" if path.stem in candidates else "",
                audio_path=relative(sound, root) if sound.is_file() else "",
            )
        )
    return clips


def _rows(root: Path, name: str, columns: tuple[str, ...]) -> list[Row]:
    return read_csv(root / name, columns) if (root / name).is_file() else []


READER = DatasetReader(NAME, f"video/*.mp4 with {LABELS} or another MER2026 table", recognises, read)
