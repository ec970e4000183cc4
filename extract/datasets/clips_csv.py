"""Any tree with a `clips.csv`: columns path and emotion.

Optional columns are clip_id, split, source, dataset, audio_path and subtitle.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from avem.errors import DataError
from avem.extract.datasets.base import DatasetReader, emotion_of, without_suffix
from avem.extract.datasets.tables import read_csv
from avem.records import Clip

TABLE = "clips.csv"


def recognises(root: Path) -> bool:
    """Whether the root has a `clips.csv`."""
    return (root / TABLE).is_file()


def read(root: Path) -> list[Clip]:
    """The clips that the table lists; files need not exist, extraction says which do not."""
    return [_clip(root, row, line) for line, row in enumerate(read_csv(root / TABLE, ("path", "emotion")), start=2)]


def _clip(root: Path, row: dict[str, str], line: int) -> Clip:
    path, audio_path = (row.get(name, "").replace("\\", "/") for name in ("path", "audio_path"))
    for value in (path, audio_path):
        if PurePosixPath(value).is_absolute() or ".." in PurePosixPath(value).parts:
            raise DataError(f"{root / TABLE} line {line}: {value} is outside the folder; give paths relative to it.")
    if not path:
        raise DataError(f"{root / TABLE} line {line} has no path.")
    dataset = row.get("dataset") or root.resolve().name or "clips"
    return Clip(
        clip_id=row.get("clip_id") or f"{dataset}/{without_suffix(path)}",
        dataset=dataset,
        path=path,
        emotion=emotion_of(row["emotion"]),
        emotions_raw=row["emotion"],
        split=row.get("split", ""),
        source=row.get("source", ""),
        audio_path=audio_path,
        subtitle=row.get("subtitle", ""),
    )


READER = DatasetReader("clips-csv", "clips.csv with the columns path and emotion", recognises, read)
