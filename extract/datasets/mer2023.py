"""MER2023 (Lian et al., 2023): `{train,test1,test2,test3}/sample*.mp4` with a label table for each."""

from __future__ import annotations

from pathlib import Path

from avem.extract.datasets.base import (
    DatasetReader,
    emotion_of,
    first_existing,
    relative,
    sound_beside,
    videos_in,
)
from avem.extract.datasets.tables import read_csv
from avem.records import Clip

NAME = "mer2023"
SPLITS = ("train", "test1", "test2", "test3")


def recognises(root: Path) -> bool:
    """Whether a split folder holds sample files."""
    return any(videos_in(root / split, "sample*") for split in SPLITS)


def read(root: Path) -> list[Clip]:
    """All clips; `worried` stays raw, and a clip without a label has none."""
    clips = []
    for split in SPLITS:
        table = first_existing(root, f"{split}-label.csv", f"test_labels/{split}-label.csv")
        labels = {row["name"]: row["discrete"] for row in read_csv(table, ("name", "discrete"))} if table else {}
        for path in videos_in(root / split, "sample*"):
            label = labels.get(path.stem, "")
            clips.append(
                Clip(
                    clip_id=f"{NAME}/{split}/{path.stem}",
                    dataset=NAME,
                    path=relative(path, root),
                    emotion=emotion_of(label),
                    emotions_raw=label,
                    split=split,
                    audio_path=sound_beside(path, root),
                )
            )
    return clips


READER = DatasetReader(NAME, "train/sample*.mp4 or test1/sample*.mp4", recognises, read)
