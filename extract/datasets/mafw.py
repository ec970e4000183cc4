"""MAFW (Liu et al., 2022): `clips/00001.mp4`, labels in Excel sheets, splits in lists."""

from __future__ import annotations

from pathlib import Path

from avem.extract.datasets.base import (
    DatasetReader,
    emotion_of,
    find_table,
    first_existing,
    need,
    relative,
    sound_beside,
    videos_in,
)
from avem.extract.datasets.tables import read_xlsx
from avem.records import Clip
from avem.text.csv_tables import read_table_text

NAME = "mafw"
MEDIA = ("clips", "data/clips")
SINGLE, MULTI = "single-set.xlsx", "multi-set.xlsx"
SPLITS = "Train & Test Set"
CODES = {
    "1": "anger",
    "2": "disgust",
    "3": "fear",
    "4": "happiness",
    "5": "neutral",
    "6": "sadness",
    "7": "surprise",
    "8": "contempt",
    "9": "anxiety",
    "10": "helplessness",
    "11": "disappointment",
}


def recognises(root: Path) -> bool:
    """Whether the clip folder is there and a label sheet or the split lists are."""
    tables = find_table(root, SINGLE) or find_table(root, MULTI) or (root / SPLITS).is_dir()
    return first_existing(root, *MEDIA) is not None and bool(tables)


def read(root: Path) -> list[Clip]:
    """All clips, with the split of set 1; a compound label stays raw."""
    media = need(first_existing(root, *MEDIA), root, " or ".join(MEDIA))
    splits, labels = _splits(root)
    for name, column in ((MULTI, "multi_label"), (SINGLE, "single_label")):
        table = find_table(root, name)
        for row in read_xlsx(table, ("clip", column)) if table else []:
            labels[Path(row["clip"]).stem] = _words(row[column])
    return [
        Clip(
            clip_id=f"{NAME}/{path.stem}",
            dataset=NAME,
            path=relative(path, root),
            emotion=emotion_of(labels.get(path.stem, "")),
            emotions_raw=labels.get(path.stem, ""),
            split=splits.get(path.stem, ""),
            audio_path=sound_beside(path, root),
        )
        for path in videos_in(media)
    ]


def _words(label: str) -> str:
    """A label of codes or words, single or compound, as words joined by `_`: `1,2` is `anger_disgust`."""
    return "_".join(CODES.get(part.strip(), part.strip()) for part in label.replace("_", ",").split(",") if part)


def _splits(root: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Split and label of each clip in set 1's lists; single labels win over compound ones."""
    splits: dict[str, str] = {}
    labels: dict[str, str] = {}
    for task in ("compound", "single"):
        for caption in ("with_caption", "no_caption"):
            for split in ("train", "test"):
                path = root / SPLITS / task / caption / "set_1" / f"{split}.txt"
                for line in read_table_text(path).splitlines() if path.is_file() else []:
                    clip, *rest = line.split("\t") if "\t" in line else line.split()
                    if rest:
                        splits[Path(clip).stem], labels[Path(clip).stem] = split, _words(rest[0])
    return splits, labels


READER = DatasetReader(NAME, f"clips/*.mp4 with {SINGLE}, {MULTI} or the folder {SPLITS!r}", recognises, read)
