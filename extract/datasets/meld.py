"""MELD (Poria et al., ACL 2019): utterances of the series Friends, one table and one folder of clips a split.

The official split; `diaD_uttU.mp4` is utterance U of dialogue D.
"""

from __future__ import annotations

from pathlib import Path

from avem.extract.datasets.base import DatasetReader, emotion_of, first_existing, has_file, need, relative
from avem.extract.datasets.tables import read_csv
from avem.records import Clip

NAME = "meld"
FOLDERS = {
    "train": ("train_splits", "train/train_splits", "train"),
    "dev": ("dev_splits_complete", "dev/dev_splits_complete", "dev"),
    "test": ("output_repeated_splits_test", "test/output_repeated_splits_test", "test"),
}
"""Split to where its clips may be: as the archives unpack, or renamed."""
COLUMNS = ("Emotion", "Dialogue_ID", "Utterance_ID")


def recognises(root: Path) -> bool:
    """Whether a split's table is there, in the root or in `data/MELD`."""
    return any(_table(root, split) is not None for split in FOLDERS)


def read(root: Path) -> list[Clip]:
    """The utterances of all tables whose clip is there; a few of the published clips are missing.

    Raises:
        DataError: A table lacks a column, or a split's folder of clips is not there.
    """
    clips = []
    for split, folders in FOLDERS.items():
        table = _table(root, split)
        if table is None:
            continue
        folder = need(first_existing(root, *folders), root, f"folder {folders[0]} with the clips of {table.name}")
        for row in read_csv(table, COLUMNS):
            dialogue = f"dia{row['Dialogue_ID']}"
            path = folder / f"{dialogue}_utt{row['Utterance_ID']}.mp4"
            if has_file(path):
                clips.append(
                    Clip(
                        clip_id=f"{NAME}/{split}/{path.stem}",
                        dataset=NAME,
                        path=relative(path, root),
                        emotion=emotion_of(row["Emotion"]),
                        emotions_raw=row["Emotion"],
                        split=split,
                        source=f"{NAME}/{split}/{dialogue}",
                    )
                )
    return clips


def _table(root: Path, split: str) -> Path | None:
    places = (root / f"{split}_sent_emo.csv", root / f"data/MELD/{split}_sent_emo.csv")
    return next((path for path in places if has_file(path)), None)


READER = DatasetReader(NAME, "train_sent_emo.csv with train_splits/diaD_uttU.mp4", recognises, read)
